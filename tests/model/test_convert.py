# SPDX-License-Identifier: Apache-2.0
"""From a unit, an isolate or a docker command line to a profile; what cannot be carried over is never dropped silently."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from supervisor import ConfigError
from supervisor.model.convert.converted import Converted
from supervisor.model.convert.docker import convert_docker
from supervisor.model.convert.isolate import REASONS, convert_isolate
from supervisor.model.convert.systemd import HINTS, convert_unit
from supervisor.model.isolate_options import isolate_limits, parse_isolate
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.policy.file import parse_file


def profile(converted: Converted) -> dict[str, Any]:
    """The profile as TOML reads it, without the sandbox; our own check finds nothing wrong with it."""
    text = converted.text("x")
    assert not parse_file(text, "x.toml").all_problems(), text
    for item in converted.lost:
        assert f"# - {item}" in text
    return {key: item for key, item in tomllib.loads(text)["profile"]["x"].items() if key != "sandbox"}


def sandbox(converted: Converted) -> dict[str, Any]:
    return dict(tomllib.loads(converted.text("x"))["profile"]["x"].get("sandbox", {}))


# ---- systemd ----

UNIT = """\
[Unit]
Description=x
[Service]
ExecStart=/bin/x \\
    --flag
; a comment
MemoryMax=1G
MemoryMax=512M
MemoryHigh=80%
TasksMax=5
TasksMax=
CPUQuota=20%
CPUWeight=idle
AllowedCPUs=0-3 5
IOReadBandwidthMax=/dev/sda 1M
IOReadBandwidthMax=/dev/sdb 2M
IOWriteIOPSMax=/dev/sda 5
IOWriteIOPSMax=
LimitNOFILE=1024:4096
LimitNICE=+5
RuntimeMaxSec=1h 30min
PrivateTmp=yes
"""


def test_a_unit() -> None:
    converted = convert_unit(UNIT, "x.service")
    assert profile(converted) == {
        "wall_time_max": "1h 30min",
        "memory_high": "80%",
        "memory_max": "512M",
        "cpu_quota": "20%",
        "allowed_cpus": "0-3,5",
        "io_read_bandwidth_max": ["/dev/sda 1000000", "/dev/sdb 2000000"],
        "limit_nofile": "1024:4096",
        "limit_nice": 15,
    }
    assert [item.partition(":")[0] for item in converted.lost] == [
        "ExecStart=/bin/x  --flag (line 4)",
        "CPUWeight=idle (line 13)",
        "PrivateTmp=yes (line 22)",
        "the sections [Unit], which limit nothing",
    ]


@pytest.mark.parametrize("name", LIMITS)
def test_every_directive_that_systemd_shares_with_us_is_carried_over(name: str) -> None:
    example = {"devices": "/dev/sda 5", "cpus": "1", "percent": "50%"}.get(LIMITS[name].unit, "5")
    if name == "cpu_quota_period":
        example = "50ms"
    assert list(profile(convert_unit(f"[Slice]\n{LIMITS[name].directive}={example}\n", "x.slice"))) == [name]


def test_hints_are_for_what_has_no_counterpart() -> None:
    assert not HINTS.keys() & {kind.directive for kind in LIMITS.values()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("MemoryMax=1\n", "u:1: 'MemoryMax=1' is neither"),
        ("[Service]\n\nwords\n", "u:3: 'words' is neither"),
        ("[Service]\na=b\\", "u:2: the last line is continued"),
    ],
)
def test_what_is_no_unit_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        convert_unit(text, "u")


def test_a_hundred_thousand_lines_take_no_longer_than_they_are_many() -> None:
    lines = "IOReadBandwidthMax=/dev/sda 1M\n" * 20_000 + "a=\\\n" * 20_000 + "b\n"
    assert profile(convert_unit("[Service]\n" + lines, "x"))["io_read_bandwidth_max"] == ["/dev/sda 1000000"]


@pytest.mark.parametrize(
    ("text", "amount"), [("1K", 1000), ("1.5G", 1_500_000_000), ("1M 1K", 1_001_000), ("7", 7), ("infinity", "infinity")]
)
def test_a_bandwidth_counts_in_thousands_as_systemd_does(text: str, amount: object) -> None:
    converted = convert_unit(f"[Service]\nIOWriteBandwidthMax=/dev/sda  {text}\n", "x")
    assert profile(converted)["io_write_bandwidth_max"] == [f"/dev/sda {amount}"]


# ---- isolate ----


def test_isolates_command_line() -> None:
    words = "--cg --cg-mem=262144 -t 2 --extra-time=.5 -w 10 -p4 -f 1024 --dir=/srv:rw --dir=data=/data --dir=t:tmp -M m --run -- ./a x"
    converted = convert_isolate(words.split())
    assert profile(converted) == {
        "cpu_time_max": "2s",
        "wall_time_max": "10s",
        "memory_max": "256M",
        "memory_swap_max": 0,
        "tasks_max": 4,
        "limit_fsize": "1M",
        "limit_stack": "infinity",
        "limit_core": 0,
        "limit_nofile": 1024,
        "limit_memlock": 0,
    }
    assert sandbox(converted) == {
        "level": "strict",
        "network": "none",
        "bind": [{"source": "/srv", "target": "/srv", "mode": "rw"}, {"source": "/data", "target": "/data", "mode": "ro"}],
    }
    assert converted.lost == (
        "--dir=t=./tmp/t:rw:tmp: a strict sandbox has a /tmp of its own, and no other",
        "--meta: say --result, which writes JSON",
        "the command: ./a x",
    )


def test_every_limit_of_isolate_has_a_reason() -> None:
    every = "--cg --cg-mem=1 --time=1 --wall-time=1 --mem=1 --fsize=1 --stack=1 --core=1 --open-files=1 --processes=1 --run -- x"
    assert set(isolate_limits(parse_isolate(every.split())).given()) == set(REASONS)


def test_words_that_isolate_refuses_are_refused() -> None:
    with pytest.raises(ConfigError, match="unrecognized option '--tim3'"):
        convert_isolate(["--tim3=1", "--run", "--", "x"])


# ---- docker ----


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ("-m 512m", {"memory_max": "512M", "memory_swap_max": "512M"}),
        ("--memory=1G --memory-swap=1.5g", None),
        ("--memory=1G --memory-swap=3g", {"memory_max": "1G", "memory_swap_max": "2G"}),
        ("--memory=1G --memory-swap=1g", {"memory_max": "1G", "memory_swap_max": 0}),
        ("--memory=1G --memory-swap=-1", {"memory_max": "1G", "memory_swap_max": "infinity"}),
        ("--memory-reservation 64m", {"memory_low": "64M"}),
        ("--cpus 1.5", {"cpu_quota": "150%"}),
        ("--cpu-quota=5000 --cpu-period 10000", {"cpu_quota": "50%", "cpu_quota_period": "10ms"}),
        ("--cpu-quota=5000", {"cpu_quota": "5%"}),
        ("-c 1024", {"cpu_weight": 39}),
        ("-c 2", {"cpu_weight": 1}),
        ("-c 262144", {"cpu_weight": 10000}),
        ("--blkio-weight 10", {"io_weight": 1}),
        ("--blkio-weight 1000", {"io_weight": 10000}),
        ("--cpuset-cpus 0-2,5", {"allowed_cpus": "0-2,5"}),
        ("--pids-limit 100", {"tasks_max": 100}),
        ("--pids-limit -1", {"tasks_max": "infinity"}),
        ("--ulimit nofile=5:10 --ulimit cpu=3 --ulimit core=-1", {"limit_nofile": "5:10", "limit_cpu": 3, "limit_core": "infinity"}),
        (
            "--device-read-bps /dev/a:1mb --device-read-bps=/dev/b:2 --device-write-iops /dev/a:7",
            {"io_read_bandwidth_max": ["/dev/a 1048576", "/dev/b 2"], "io_write_iops_max": ["/dev/a 7"]},
        ),
    ],
)
def test_dockers_limits(words: str, limits: dict[str, Any] | None) -> None:
    converted = convert_docker(["docker", "run", "--network=none", *words.split(), "image"])
    if limits is None:
        assert converted.lost[0] == "--memory-swap 1.5g: is not a size"
    else:
        assert profile(converted) == limits
        assert len(converted.lost) == 1 and converted.lost[0].startswith("the image and its command: image")


def test_dockers_world() -> None:
    words = "run --rm -it -v /srv:/data:ro,z -v vol:/x --mount type=bind,src=/a,dst=/b,ro --mount type=tmpfs,dst=/t -h box --net host --cap-add X i c"
    converted = convert_docker(words.split())
    assert sandbox(converted) == {
        "level": "strict",
        "network": "host",
        "hostname": "box",
        "shm_size": 64 << 20,
        "bind": [{"source": "/srv", "target": "/data", "mode": "ro"}, {"source": "/a", "target": "/b", "mode": "ro"}],
    }
    assert converted.lost == (
        "--tty: say --pty when the job is started",
        "--cap-add X: a sandbox gives no capabilities",
        "--volume vol:/x: only absolute paths of the host can be bound",
        "--mount type=tmpfs,dst=/t",
        "--interactive, --rm: how a container is kept, not what it may use",
        "the image and its command: i c; a sandbox shows the host's own system directories",
    )


def test_a_network_that_is_not_carried_over_is_told_and_closed() -> None:
    assert sandbox(convert_docker(["run", "i"]))["network"] == "none"
    assert "docker's bridge network, its default: the profile has none" in convert_docker(["run", "i"]).lost
    assert "--network mine: there are none, loopback and host" in convert_docker(["run", "--network", "mine", "i"]).lost


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("build .", "begins with run"),
        ("", "begins with run"),
        ("run --memori=1", "did you mean 'memory'"),
        ("run -m", "requires an argument"),
    ],
)
def test_what_docker_refuses_is_refused(words: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        convert_docker(words.split())
