# SPDX-License-Identifier: Apache-2.0
"""Sessions: many commands in one work directory, limits for each and for all, and a record of every one."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import facts
import pytest
from programs import python, sh
from waiting import SLOW, Line, is_alive, wait_dead

import supervisor
from supervisor import ClosedError, ConfigError, Session, UnsupportedError
from supervisor.kernel.cgroup import Cgroup
from supervisor.runtime.allowance import Allowance


@pytest.fixture
def outside() -> Iterator[Path]:
    """A directory that no private /tmp covers."""
    with tempfile.TemporaryDirectory(prefix="ringfence-test-", dir="/var/tmp") as folder:
        yield Path(folder)


#: 256 processes at most, so that a host that can only sample survives it; the virtual machine meets one without end.
BOUNDED_BOMB = "import os, signal\nfor _ in range(8):\n    try:\n        os.fork()\n    except OSError:\n        pass\nsignal.pause()"
BOMB = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"


async def test_what_one_command_writes_the_next_one_reads_and_at_the_end_it_is_gone() -> None:
    async with Session() as session:
        assert (await session.run(sh("echo hello > note; mkdir -p a/b; echo 1 > a/b/c"))).ok
        assert (await session.run(sh("cat note"), text=True)).stdout == "hello\n"
        assert (await session.run(sh("cat c"), cwd="a/b", text=True)).stdout == "1\n"
        place = session.directory
    assert not os.path.exists(place)


async def test_a_directory_of_the_callers_is_kept(tmp_path: Path) -> None:
    async with Session(tmp_path) as session:
        await session.run(sh("echo x > f"))
    assert (tmp_path / "f").read_text() == "x\n"


@pytest.mark.requires("mount")
@pytest.mark.parametrize("place", ["/tmp", "/var/tmp", "/dev/shm"])
async def test_a_basic_command_sees_the_whole_work_directory_wherever_in_it_it_begins(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", place)
    async with Session(sandbox="basic") as session:
        await session.run(sh("echo hello > note; mkdir -p a/b"))
        assert (await session.run(sh("cat ../../note; echo x > ../f"), cwd="a/b", text=True)).stdout == "hello\n"
        assert (await session.run(sh("cat a/f"), text=True)).stdout == "x\n"


@pytest.mark.requires("mount", "landlock")
@pytest.mark.parametrize("place", ["/tmp", "/var/tmp", "/dev/shm"])
async def test_a_link_of_one_command_does_not_let_the_next_one_write_where_it_leads(
    place: str, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", place)
    async with Session(sandbox="basic") as session:
        assert (await session.run(["ln", "-s", str(outside), "sub"])).ok
        await session.run(sh("echo x > here; echo x > $1/there", str(outside)), cwd="sub")
    assert list(outside.iterdir()) == []


async def test_the_environment_is_clean_and_what_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s")
    async with Session(env={"A": "1"}) as session:
        session.env["B"] = "2"
        said = (await session.run(sh('echo "$A $B $C $SECRET"'), env={"C": "3"}, text=True)).stdout
        assert said == "1 2 3 \n"
        assert (await session.run(sh('echo "$C"'), text=True)).stdout == "\n"


async def test_every_command_leaves_a_record_of_what_it_was_and_changed(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    async with Session(audit=audit) as session:
        await session.run(sh("echo 12 > f; mkdir d; echo x > g; ln -s /etc/passwd l"))
        await session.run(sh("echo 3456 > f; rm g; exit 3"))
        first, second = session.records
        assert {(c.name, c.change, c.kind, c.size_bytes) for c in first.files if c.kind == "file"} == {
            ("f", "created", "file", 3),
            ("g", "created", "file", 2),
        }
        assert {(c.name, c.kind) for c in first.files if c.kind != "file"} == {("d", "directory"), ("l", "link")}
        assert [(c.name, c.change, c.size_bytes, c.before_bytes) for c in second.files] == [
            ("f", "modified", 5, 3),
            ("g", "deleted", None, 2),
        ]
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["number"], line["verdict"], line["exit"]["code"]) for line in lines] == [(1, "ok", 0), (2, "nonzero_exit", 3)]
    assert lines[0]["args"][0] == "/bin/sh" and lines[0]["usage"]["wall_ns"] > 0 and audit.stat().st_mode & 0o077 == 0


async def test_the_same_size_and_time_of_change_do_not_hide_a_change() -> None:
    """st_mtime is the job's to set; st_ctime is not."""
    async with Session() as session:
        await session.put({"f": b"abc"})
        await session.run(sh("touch -r f ref; printf xyz > f; touch -r ref f; rm ref"))
        assert [(c.name, c.change) for c in session.records[-1].files] == [("f", "modified")]


async def test_an_audit_file_in_the_work_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="audit"):
        async with Session(tmp_path, audit=tmp_path / "audit"):
            pass


@pytest.mark.usefixtures("holder")
async def test_background_children_are_ended_with_their_command() -> None:
    async with Session() as session:
        outcome = await session.run(sh("setsid sleep 1000 & echo $!"), text=True)
        assert outcome.verdict == "ok"
        assert not is_alive(int(outcome.stdout))


@pytest.mark.requires("cgroup")
async def test_background_children_are_kept_when_asked_and_end_with_the_session() -> None:
    async with Session(background="keep") as session:
        outcome = await session.run(sh("setsid sleep 1000 >/dev/null 2>&1 & echo $!"), text=True)
        pid = int(outcome.stdout)
        assert is_alive(pid) and session.records[-1].kept == 1
        assert (await session.run(sh("true"))).ok
        assert is_alive(pid)
        await session.run(sh('kill "$1"', pid))
        wait_dead(pid)
        other = int((await session.run(sh("sleep 1000 >/dev/null 2>&1 & echo $!"), text=True)).stdout)
        assert is_alive(other)
    wait_dead(other, timeout=1)


def launch_for_a_while(session: Session) -> None:
    """What ended commands hold is given back late, as while another one is launched for so long."""
    releases = session._supervisor.releases
    releases.launching()
    asyncio.get_running_loop().call_later(0.2, releases.launched)


@pytest.mark.requires("cgroup")
async def test_what_a_command_left_is_counted_although_its_cgroup_is_given_back_late() -> None:
    async with Session(background="keep") as session:
        launch_for_a_while(session)
        await session.run(sh("sleep 1000 >/dev/null 2>&1 &"))
        assert session.records[-1].kept == 1


async def test_a_session_that_is_left_waits_until_its_commands_cgroups_are_given_back() -> None:
    async with Session() as session:
        running = asyncio.ensure_future(session.run(sh("exec sleep 1000")))
        while not session._supervisor.jobs:
            await asyncio.sleep(0)
        job = session._supervisor.jobs[0]
        await job.settled()
        launch_for_a_while(session)
    assert job.released
    assert (await running).verdict == "cancelled"


@pytest.mark.requires("cgroup")
async def test_a_command_that_broke_its_limit_keeps_nothing() -> None:
    async with Session(background="keep", command_limits={"wall_time_max": 0.3}) as session:
        outcome = await session.run(sh("sleep 1000 >/dev/null 2>&1 & echo $!; exec sleep 1000"), text=True)
        assert outcome.verdict == "wall_limit"
        assert not is_alive(int(outcome.stdout))


async def test_background_cannot_be_kept_without_a_cgroup(no_cgroup: None) -> None:
    async with Session(background="keep") as session:
        with pytest.raises(UnsupportedError, match="keep"):
            await session.run(sh("true"))


@pytest.mark.usefixtures("holder")
async def test_the_wall_time_of_the_session_ends_what_runs_and_nothing_starts_after_it() -> None:
    async with Session(limits={"wall_time_max": 0.5}) as session:
        outcome = await session.run(sh("exec sleep 1000"))
        assert (outcome.verdict, outcome.limits_hit) == ("wall_limit", ("wall_time_max",))
        with pytest.raises(ClosedError, match="wall_time_max"):
            await session.run(sh("true"))
        assert session.spent == "wall_time_max"


@pytest.mark.usefixtures("holder")
async def test_processor_time_is_counted_over_all_commands() -> None:
    spin = f"import time\nend = time.process_time() + {0.25 * SLOW}\nwhile time.process_time() < end: pass"
    async with Session(limits={"cpu_time_max": 0.6 * SLOW}) as session:
        verdicts = [(await session.run(python(spin))).verdict for _ in range(2)]
        assert verdicts[0] == "ok"
        while session.spent is None:
            verdicts.append((await session.run(python(spin))).verdict)
            assert len(verdicts) < 10
        assert verdicts[-1] == "cpu_limit" and session.spent == "cpu_time_max"
        total = session.records[-1].session_cpu_ns
        assert total is not None and total >= 500_000_000


@pytest.mark.requires("cgroup")
async def test_kept_children_of_a_spent_session_are_killed_although_no_descriptor_is_left_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, refused = Cgroup.kill, list[str]()

    def kill(cgroup: Cgroup) -> None:
        if len(refused) < 3:
            refused.append(cgroup.name)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        usual(cgroup)

    async with Session(limits={"wall_time_max": 0.5}, background="keep") as session:
        pid = int((await session.run(sh("sleep 1000 >/dev/null 2>&1 & echo $!"), text=True)).stdout)
        monkeypatch.setattr(Cgroup, "kill", kill)
        await asyncio.to_thread(wait_dead, pid, timeout=5)
        assert session.spent == "wall_time_max" and len(refused) == 3


@pytest.mark.requires("cgroup")
async def test_kept_children_are_killed_at_the_end_of_the_time_also_when_another_limit_was_spent_before() -> None:
    limits = {"wall_time_max": 1.0, "disk_max": "64K"}
    async with Session(limits=limits, best_effort=["disk_max"], background="keep") as session:
        command = sh("head -c 100000 /dev/zero >large; sleep 1000 >/dev/null 2>&1 & echo $!")
        pid = int((await session.run(command, text=True)).stdout)
        assert session.spent == "disk_max"
        await asyncio.to_thread(wait_dead, pid, timeout=10)
        assert session.spent == "disk_max"


@pytest.mark.requires("cgroup")
async def test_what_is_kept_when_the_time_is_spent_already_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's end is told before its cgroup is given over, and the time may be spent in between."""
    usual = Allowance.keep

    def keep(allowance: Allowance, cgroup: Cgroup) -> None:
        while allowance.spent is None:
            allowance._look()
        usual(allowance, cgroup)

    monkeypatch.setattr(Allowance, "keep", keep)
    async with Session(limits={"wall_time_max": 0.5}, background="keep") as session:
        outcome = await session.run(sh("sleep 1000 >/dev/null 2>&1 & echo $!"), text=True)
        assert outcome.verdict == "ok" and session.spent == "wall_time_max"
        await asyncio.to_thread(wait_dead, int(outcome.stdout), timeout=10)


@pytest.mark.requires("cgroup")
async def test_kept_children_spend_the_sessions_processor_time() -> None:
    async with Session(limits={"cpu_time_max": 0.5}, background="keep") as session:
        pid = int((await session.run(sh("(while :; do :; done) >/dev/null 2>&1 & echo $!"), text=True)).stdout)
        while session.spent is None:
            await asyncio.sleep(0.02)
        wait_dead(pid, timeout=5)


@pytest.mark.requires("pids")
async def test_tasks_of_all_commands_together_are_held_by_the_session() -> None:
    async with Session(limits={"tasks_max": 16}) as session:
        outcome = await session.run(sh("for n in $(seq 40); do sleep 5 & done; exit 1"))
        assert outcome.verdict == "tasks_limit" and "tasks_max" in outcome.limits_hit
        assert session.enforcement["tasks_max"] == "cgroup pids.max"


@pytest.mark.requires("memory")
async def test_memory_of_the_session_is_the_sessions_limit_and_not_the_hosts() -> None:
    async with Session(limits={"memory_max": "64M"}) as session:
        outcome = await session.run(python("b = b'x' * (200 << 20)"))
        assert (outcome.verdict, outcome.limits_hit[0]) == ("memory_limit", "memory_max")
        assert (await session.run(sh("true"))).ok


async def test_a_limit_of_one_process_is_no_limit_of_a_session() -> None:
    with pytest.raises(ConfigError, match="command_limits"):
        Session(limits={"limit_nofile": 10})
    with pytest.raises(ConfigError, match="best_effort"):
        Session(limits={"disk_max": "1M"})


async def test_the_size_of_the_work_directory_is_looked_at_after_each_command() -> None:
    async with Session(limits={"disk_max": "1M"}, best_effort=["disk_max"]) as session:
        assert (await session.run(sh("head -c 2M /dev/zero > f"))).ok
        with pytest.raises(ClosedError, match="disk_max"):
            await session.run(sh("true"))


async def test_cancelling_a_command_ends_it_and_records_it() -> None:
    async with Session() as session:
        with Line() as line:
            running = asyncio.ensure_future(
                session.run(sh('echo ready > "/proc/self/fd/$1"; exec sleep 1000', line.end), pass_fds=[line.end])
            )
            assert await asyncio.to_thread(line.read) == "ready"
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            line.wait_closed(timeout=2)
        assert session.records[-1].outcome.verdict == "cancelled"


async def test_a_deep_and_locked_tree_is_removed_all_the_same() -> None:
    code = "import os\nfor n in range(3000):\n    os.mkdir('d'); os.chdir('d')\nopen('f', 'w').close()\nos.chmod('.', 0)"
    async with Session() as session:
        assert (await session.run(python(code))).ok
        assert not session.records[-1].files_complete
        place = session.directory
    assert not os.path.exists(place)


@pytest.mark.requires("mount")
@pytest.mark.usefixtures("holder")
async def test_in_a_strict_sandbox_the_work_directory_is_at_work() -> None:
    async with Session(sandbox="strict") as session:
        await session.put({"in/task": b"6 7\n"})
        outcome = await session.run(["/bin/sh", "-c", "pwd; read a b < in/task; echo $((a * b)) > answer; touch /usr/x"], text=True)
        assert outcome.stdout == "/work\n"
        assert (await session.collect("answer"))["answer"] == b"42\n"
        with pytest.raises(UnsupportedError):
            await session.run(["/bin/true"], background="keep")


@pytest.mark.timeout(240)
@pytest.mark.requires("cgroup")
async def test_two_hundred_commands_with_a_background_child_and_a_fork_bomb_in_the_middle(tmp_path: Path) -> None:
    """The bomb is held by pids.max where there is one, else it is sampled, and short in any case."""
    bounded = {"tasks_max": 40, "wall_time_max": 2, "cpu_time_max": 2}
    limits = {"wall_time_max": 200, "tasks_max": 200}
    audit = tmp_path / "audit.jsonl"
    async with Session(limits=limits, best_effort=["tasks_max"], background="keep", audit=audit) as session:
        child = 0
        for number in range(1, 201):
            if number == 50:
                child = int((await session.run(sh("sleep 1000 >/dev/null 2>&1 & echo $!"), text=True)).stdout)
            elif number == 100:
                code = BOUNDED_BOMB if facts.missing("pids") else BOMB
                bomb = await session.run(python(code), limits=bounded, best_effort=["tasks_max"])
                assert bomb.verdict in ("tasks_limit", "wall_limit", "cpu_limit"), bomb
            else:
                outcome = await session.run(sh('echo "$1" > "f$1"; echo "$1"', number), text=True)
                assert (outcome.verdict, outcome.stdout) == ("ok", f"{number}\n")
        assert is_alive(child)
        assert len(session.records) == 200 and session.records[-1].kept == 1
        written = await session.collect("f*")
        assert len(written.files) == 198 and written["f200"] == b"200\n"
    wait_dead(child, timeout=1)
    assert len(audit.read_text().splitlines()) == 200


async def test_files_go_in_and_come_out_of_a_single_run(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\ntr a-z A-Z < in/x > out.txt\n")
    script.chmod(0o755)
    outcome = await asyncio.to_thread(supervisor.run, ["./go"], files={"in/x": b"abc", "go": script}, collect="*.txt")
    assert outcome.ok and outcome.collected is not None
    assert dict(outcome.collected.files.items())["out.txt"].content == b"ABC"
    assert outcome.to_dict()["collected"]["files"] == [{"name": "out.txt", "size_bytes": 3}]


async def test_cancelling_while_files_are_placed_leaves_nothing_behind() -> None:
    async with Session() as session:
        placing = asyncio.ensure_future(session.put({f"d{number}/f": b"x" * 4096 for number in range(500)}))
        await asyncio.sleep(0)
        placing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await placing
        place = session.directory
    assert not os.path.exists(place)


async def test_leaving_the_scope_ends_commands_that_other_tasks_wait_for() -> None:
    with Line() as line:
        async with Session() as session:
            running = asyncio.ensure_future(
                session.run(sh('echo ready > "/proc/self/fd/$1"; exec sleep 1000', line.end), pass_fds=[line.end])
            )
            assert await asyncio.to_thread(line.read) == "ready"
        assert (await running).verdict == "cancelled"
        assert session.records[-1].outcome.verdict == "cancelled"
        with pytest.raises(ClosedError):
            await session.run(sh("true"))
        line.wait_closed(timeout=2)
