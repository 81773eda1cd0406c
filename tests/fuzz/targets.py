# SPDX-License-Identifier: Apache-2.0
"""Targets: what is fuzzed, and with which words a mutation is likely to get past the first check.

To add one: a function from bytes that lets only the expected exceptions out, a row in TARGETS, and some inputs in
``corpus/NAME/``. The function does all a user's input would have done to it, short of touching the system; a text that
it returns is its answer, as the words of an expected exception are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from supervisor.errors import BrokenError, ConfigError, UnsupportedError
from supervisor.model import frames
from supervisor.model.frames import Terms
from supervisor.model.limit_kinds import LIMITS
from tests.fuzz import channels, texts, workers
from tests.fuzz.commands import command_line, isolate, notices, runexec, timeout, words

if TYPE_CHECKING:
    from supervisor.model.convert.converted import Converted


class Target(NamedTuple):
    """One parser: what runs it, the exceptions that are answers, and words worth inserting."""

    run: Callable[[bytes], object]
    answers: tuple[type[BaseException], ...]
    words: tuple[bytes, ...]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def policy(raw: bytes) -> str:
    """A policy file to a policy for every profile, or problems; what resolves is compared, shown and planned for a host."""
    from supervisor.model.host import Host
    from supervisor.model.policy.catalogue import Catalogue, Place, Want
    from supervisor.model.policy.compare import compare
    from supervisor.model.policy.file import parse_file
    from supervisor.model.policy.policy import Policy
    from supervisor.model.policy.reference import Reference
    from supervisor.model.policy.resolve import examine, resolve
    from supervisor.model.relative import resolve_relative

    file = parse_file(_text(raw), "fuzz.toml")
    catalogue = Catalogue(files={"fuzz.toml": file}, places=(Place(name="library"),))
    found = examine(file, catalogue)
    assert isinstance(found, Want) or all(str(problem) and problem.line >= 0 for problem in found)
    for name in file.profiles:
        try:
            policy = resolve(Reference(file="fuzz.toml", profile=name), catalogue)
        except ConfigError:
            continue
        if isinstance(policy, Policy):
            assert not file.all_problems(), "a file with anything wrong in it must not resolve"
            compare(policy, Policy())
            resolve_relative(policy.limits, Host())
    return "; ".join(problem.message for problem in found) if isinstance(found, tuple) else "more is needed"


def reference(raw: bytes) -> None:
    """What stands behind ``--policy``."""
    from supervisor.model.policy.reference import parse_reference

    parse_reference(raw.decode("utf-8", "surrogateescape"))


def isolate_options(raw: bytes) -> str:
    """isolate's command line, and the profile made from it."""
    from supervisor.model.convert.isolate import convert_isolate

    return _reads_back(convert_isolate(words(raw)))


def docker(raw: bytes) -> str:
    """docker's command line, and the profile made from it."""
    from supervisor.model.convert.docker import convert_docker

    return _reads_back(convert_docker(words(raw)))


def unit(raw: bytes) -> str:
    """A systemd unit, and the profile made from it."""
    from supervisor.model.convert.systemd import convert_unit

    return _reads_back(convert_unit(_text(raw), "fuzz.service"))


def _reads_back(converted: Converted) -> str:
    """What a conversion writes is TOML, and at most a sandbox's values are refused (a relative or forbidden path)."""
    from supervisor.model.policy.file import parse_file

    text = converted.text("fuzz")
    wrong = [problem for problem in parse_file(text, "converted.toml").all_problems() if not problem.key.startswith("sandbox.")]
    assert not wrong, f"{wrong} in {text!r}"
    return "; ".join([*(entry.key for entry in converted.limits), *converted.lost])


_TOML: Final = (
    b"[profile.a]\n",
    b"[profile.a.sandbox]\n",
    b"[[",
    b"]]",
    b'"""',
    b"'''",
    b"\\u00e9",
    b"inf",
    b"nan",
    b"1979-05-27",
    b"{ ",
    b" }",
)
_AMOUNTS: Final = (
    b"infinity",
    b"max",
    b"auto",
    b"50%",
    b"1G",
    b"1min 30s",
    b"-1",
    b"0",
    b"9223372036854775808",
    b"1e999",
    b"1:2",
    b"/dev/sda 1M",
)
_NAMES: Final = tuple([name.encode() for name in LIMITS])
_KEYS: Final = (
    b'extends = "a"\n',
    b"best_effort = [",
    b"adaptive",
    b"sandbox",
    b"level",
    b"strict",
    b"network",
    b"bind",
    b"overlay",
    b"min",
    b"max",
)

_FRAMES: Final = (
    *(bytes([kind, flags]) for kind in range(5) for flags in (0, 1, 2, 4, 6, 8, 16)),
    frames.encode_ack(0, channels.TERMS),
    frames.encode_ack(1, Terms()),
    frames.encode(frames.DATA, 0, 1, b"", 0),
    frames.encode(frames.DATA, frames.REQUEST, 2, b"a", 1) + b"?",
    frames.encode(frames.STATUS, frames.SEALED, 3, b"", 8, 1) + bytes(8),
    b"\xff" * 8,
    b"\0",
)
#: Of the language of channels.py: a whole frame, its packet, and what we do meanwhile.
_STEPS: Final = (
    *(
        b"f" + bytes([kind, flags, count, number, 0, 0])
        for kind in (1, 3)
        for flags in (0, 1, 2, 4, 6)
        for count in (0, 2)
        for number in (1, 2)
    ),
    b"f\x01\x10\x01\x05\x00\x08" + bytes(8),
    b"f\x01\x00\x00\x03\x04\x01good!",
    b"w\x01\x00\x00\x09\xff",
    b"w\x01\x04\x00\x01\xff",
    b"r\x20" + frames.encode_ack(0, channels.TERMS),
    *(b"s" + bytes([count, kind]) for count in (0, 1, 2, 16) for kind in (0, 1, 4, 9)),
    b"F",
    b"T",
    b"A",
    b"P",
    b"Q",
    b"FT",
)

TARGETS: Final[dict[str, Target]] = {
    "policy": Target(policy, (), (*_TOML, *_AMOUNTS, *_NAMES, *_KEYS)),
    "reference": Target(reference, (ConfigError,), (b"#", b"/", b".toml")),
    "run_options": Target(
        command_line,
        (ConfigError, UnsupportedError),
        (
            *_AMOUNTS,
            *(b"--" + name.replace(b"_", b"-") + b"=" for name in _NAMES),
            *(b"\n--sandbox=" + level for level in (b"none", b"basic", b"strict")),
            *(b"--bind=", b":rw", b"--network=loopback", b"--setenv=", b"--umask=", b"--nice=", b"--cpu-affinity=", b"--best-effort="),
            *(b"-p", b"--", b"\n", b"/usr/x", b".."),
        ),
    ),
    "isolate": Target(
        isolate,
        (ConfigError, UnsupportedError),
        (
            *_AMOUNTS,
            b"--run",
            b"--dir=",
            b":rw",
            b":maybe",
            b"--time=",
            b"--cg",
            b"--env=",
            b"-E",
            b"-b0",
            b"--meta=",
            b"\n--\n",
            b"..",
            b"\n",
        ),
    ),
    "runexec": Target(
        runexec,
        (ConfigError, UnsupportedError),
        (
            *_AMOUNTS,
            b"--timelimit",
            b"--memlimit",
            b"--cores",
            b"--set-cgroup-value",
            b"memory.high=",
            b"--dir",
            b"\n--\n",
            b"\n",
            b"0-3,5",
        ),
    ),
    "timeout": Target(
        timeout, (ConfigError, UnsupportedError), (*_AMOUNTS, b"-s", b"-k", b"--signal=", b"KILL", b"RTMIN+1", b"0x1p3", b"5s", b"\n")
    ),
    "notices": Target(
        notices, (), (*(bytes([200, kind, 0, 0, 0]) for kind in range(7)), b"\xff\xff\xff\xff", b"\x80", bytes(100), b"\x7f\xff\xff\xff")
    ),
    "isolate_options": Target(
        isolate_options,
        (ConfigError,),
        (*_AMOUNTS, b"--run", b"--dir=", b":rw", b":fs", b"--time=", b"--cg", b"--cg-mem=", b"--processes", b"\n--\n"),
    ),
    "docker": Target(
        docker, (ConfigError,), (*_AMOUNTS, b"run\n", b"--memory=", b"--ulimit=", b"-v", b"--mount=type=bind,", b"--cpus=", b"\n")
    ),
    "unit": Target(
        unit, (ConfigError,), (*_AMOUNTS, b"[Service]\n", b"MemoryMax=", b"CPUQuota=", b"LimitNOFILE=", b"IOReadBandwidthMax=", b"\\\n")
    ),
    "frames": Target(channels.frames_of, (ConfigError,), _FRAMES),
    "link": Target(channels.link, (), (*_STEPS, *_FRAMES)),
    "exchange": Target(channels.exchange, (), (*_STEPS, b"YY", b"G", b"H", b"Q", b"B", b"good", b"bad", b"*", b"#t", b"#", b"")),
    "objects": Target(
        channels.objects,
        (ValueError,),
        (
            b"\x91",
            b"\x81",
            b"\xc0",
            b"\xdd\xff\xff\xff\xff",
            b"\xc7\x0c\xff",
            b"\xd7\xff",
            b"\xcb\x7f\xf8",
            b"\xa1\xff",
            b"\xcf",
            b"\xc4\x01",
        ),
    ),
    "answers": Target(
        workers.answers,
        (BrokenError,),
        (bytes([4]), bytes(8), bytes(7), b"\x04\x05" + bytes(6), b"\xff" * 8, b"\x05\x00\x00\x02" + bytes(12)),
    ),
    "lines": Target(workers.lines, (BrokenError,), (b"\n", b"\r\n", b"\0", b"a line")),
    "template": Target(
        workers.template, (), (b"\n", b"\x07" + bytes(3), bytes(4), b"\xff" * 4, b"\x7f", bytes(16), b"\x01" + bytes(15), b"ready")
    ),
    "grants": Target(
        texts.grants,
        (ConfigError,),
        (
            b"segment",
            b"writer",
            b"reader",
            b":",
            b":",
            b" ",
            b",",
            b"queue",
            b"broadcast",
            b"rw",
            b"/",
            b"2147483648",
            b"9" * 19,
            b"70368744177664",
        ),
    ),
    "notification": Target(
        texts.notification,
        (),
        (
            b"\n",
            b"READY=1",
            b"STATUS=",
            b"WATCHDOG=1",
            b"WATCHDOG_USEC=",
            b"EXTEND_TIMEOUT_USEC=",
            b"MAINPID=",
            b"FDSTORE=1",
            b"BARRIER=1",
            b"\x1b",
        ),
    ),
    "cpu_list": Target(texts.cpu_list, (ValueError,), (b"0-8191", b",", b" ", b"-", b"8192", b"0", b"0-31:2/16", b"all", b"\xd9\xa3")),
    "statistics": Target(
        texts.statistics,
        (),
        (
            b"\n",
            b" ",
            b"=",
            b"max",
            b"rbytes=",
            b"wbytes=",
            b"some total=",
            b"full ",
            b"oom_kill 1",
            b"\xd9\xa3",
            b"9" * 20,
            b"-1",
            b"usage_usec ",
        ),
    ),
    "meta": Target(
        texts.meta, (), (b"\n", b"\r", b"\x0b", b"\x1c", b"\xc2\x85", b"\xe2\x80\xa8", b"status:OK", b"exitcode:0", b":", b"\0")
    ),
}
