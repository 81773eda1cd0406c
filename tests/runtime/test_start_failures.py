# SPDX-License-Identifier: Apache-2.0
"""Every step of a launch that can fail, forced once: the stage, the errno, and nothing left behind."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import as_ordinary_user

import supervisor
from supervisor import JobSpec, Outcome
from supervisor.runtime.oneshot import Ground, run_spec


def assert_failed(outcome: Outcome, stage: str, number: int) -> None:
    """``start_failed`` at this stage with this errno, and nothing that would look like a run."""
    assert outcome.verdict == "start_failed", outcome
    assert outcome.error is not None
    assert (outcome.error.stage, outcome.error.errno) == (stage, number), outcome.error
    assert outcome.error.message and "\n" not in outcome.error.message
    assert outcome.exit == supervisor.Exit() and outcome.returncode is None
    assert not outcome.killed and not outcome.limits_hit
    assert outcome.usage.cpu_ns is None and outcome.usage.wall_ns is None


# exec


def a_directory(folder: Path) -> str:
    return str(folder)


def a_file_without_the_bit(folder: Path) -> str:
    (folder / "plain").write_text("#!/bin/sh\n")
    return str(folder / "plain")


def executable(folder: Path, text: bytes) -> str:
    path = folder / "program"
    path.write_bytes(text)
    path.chmod(0o755)
    return str(path)


def _loop_of_links(folder: Path) -> str:
    (folder / "loop").symlink_to("loop")
    return str(folder / "loop")


PROGRAMS: dict[str, tuple[Callable[[Path], str], int, int, str]] = {
    "missing by path": (lambda folder: str(folder / "no"), errno.ENOENT, 127, "command not found"),
    "missing in PATH": (lambda _: "no-such-program-anywhere", errno.ENOENT, 127, "command not found in PATH"),
    "below a file": (lambda _: "/etc/passwd/program", errno.ENOENT, 127, "command not found"),
    "a directory": (a_directory, errno.EACCES, 126, "is a directory"),
    "not executable": (a_file_without_the_bit, errno.EACCES, 126, "not executable"),
    "a missing interpreter": (
        lambda f: executable(f, b"#!/no/such/shell -x\n"),
        errno.ENOEXEC,
        126,
        "its interpreter /no/such/shell does not exist",
    ),
    "no interpreter line": (lambda f: executable(f, b"echo hello\n"), errno.ENOEXEC, 126, "not a program the kernel can run"),
    "empty": (lambda f: executable(f, b""), errno.ENOEXEC, 126, "not a program the kernel can run"),
    "another machine's": (
        lambda f: executable(f, b"\x7fELF\x02\x01\x01" + bytes(100)),
        errno.ENOEXEC,
        126,
        "not a program the kernel can run",
    ),
    "a loop of links": (_loop_of_links, errno.ELOOP, 126, "symbolic links"),
    "a name too long": (lambda _: "/" + "x" * 300, errno.ENAMETOOLONG, 126, "too long"),
}


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_that_cannot_be_run_is_a_failed_start_with_its_reason(kind: str, tmp_path: Path) -> None:
    """Stage exec, the kernel's errno, one line for people, and a shell's exit status."""
    make, number, status, words = PROGRAMS[kind]
    outcome = supervisor.run([make(tmp_path)], capture_output=True)
    assert_failed(outcome, "exec", number)
    assert outcome.error is not None and words in outcome.error.message
    assert outcome.exit_status() == status
    assert (outcome.stdout, outcome.stderr) == (b"", b"")


@pytest.mark.usefixtures("holder")
def test_a_file_that_is_being_written_cannot_be_run(tmp_path: Path) -> None:
    """Text file busy."""
    path = executable(tmp_path, Path("/bin/true").read_bytes())
    with open(path, "ab"):
        assert_failed(supervisor.run([path]), "exec", errno.ETXTBSY)
    assert supervisor.run([path]).ok


@pytest.mark.usefixtures("holder")
def test_arguments_longer_than_the_kernel_takes_are_a_failed_start() -> None:
    """E2BIG, for one huge argument and for a stack limit that leaves no room."""
    assert_failed(supervisor.run(["/bin/true", "x" * (1 << 18)]), "exec", errno.E2BIG)
    assert_failed(supervisor.run(["/bin/true", *["x" * 1000] * 600], limits={"limit_stack": "1M"}), "exec", errno.E2BIG)
    assert supervisor.run(["/bin/true", *["x" * 1000] * 600], limits={"limit_stack": "8M"}).ok


@pytest.mark.usefixtures("holder")
def test_the_best_reason_of_all_places_in_path_is_told(tmp_path: Path) -> None:
    """A forbidden file in one folder of PATH beats its absence in the others; a later good one wins."""
    forbidden, good = tmp_path / "a", tmp_path / "b"
    for folder in (forbidden, good):
        folder.mkdir()
    (forbidden / "tool").write_text("#!/bin/sh\n")
    path = f"/nowhere:{forbidden}:/also/nowhere"
    assert_failed(supervisor.run(["tool"], env={"PATH": path}), "exec", errno.EACCES)
    (good / "tool").symlink_to("/bin/true")
    assert supervisor.run(["tool"], env={"PATH": f"{path}:{good}"}).ok


# hooks


@pytest.mark.usefixtures("holder")
def test_a_working_directory_that_is_gone_is_a_failed_start(tmp_path: Path) -> None:
    """ENOENT, ENOTDIR: the stage is the directory's, not the program's."""
    assert_failed(supervisor.run(["true"], cwd=tmp_path / "gone"), "working_directory", errno.ENOENT)
    assert_failed(supervisor.run(["true"], cwd="/etc/passwd"), "working_directory", errno.ENOTDIR)


@pytest.mark.requires("cgroup")
def test_limit_nofile_without_room_for_the_standard_streams_is_a_failed_start() -> None:
    """And the message says so."""
    outcome = supervisor.run(["true"], limits={"limit_nofile": 1}, capture_output=True)
    assert_failed(outcome, "stdio", errno.EBADF)
    assert outcome.error is not None and "limit_nofile" in outcome.error.message


@pytest.mark.usefixtures("holder")
def test_a_descriptor_to_pass_that_is_not_open_is_a_failed_start() -> None:
    """EBADF for the descriptor and not for the streams."""
    assert_failed(supervisor.run(["true"], pass_fds=[777]), "pass_fd", errno.EBADF)


@pytest.mark.usefixtures("holder")
def test_processors_that_do_not_exist_are_a_failed_start() -> None:
    """An affinity to processor 8000 only."""
    assert_failed(supervisor.run(["true"], cpu_affinity=[8000]), "cpu_affinity", errno.EINVAL)


@pytest.mark.usefixtures("holder")
def test_a_controlling_terminal_that_is_none_is_a_failed_start() -> None:
    """/dev/null takes no TIOCSCTTY."""
    with open(os.devnull, "rb") as file:
        spec = JobSpec(argv=("true",), controlling_terminal=file.fileno(), stdin=file.fileno(), stdout=file.fileno(), stderr=file.fileno())
        assert_failed(run_spec(spec), "terminal", errno.ENOTTY)


WITHOUT_PRIVILEGE = """
import json, os, resource, sys
import supervisor
from supervisor.runtime.oneshot import Ground, run_spec
from supervisor.runtime.request import make_spec
ground = Ground()
before = len(os.listdir("/proc/self/fd"))
{lower}
outcome = run_spec(make_spec(["true"], **{options}), ground)
ground.close()
left = len(os.listdir("/proc/self/fd")) - before + (1 if ground.host.cgroup else 0)
print(json.dumps([outcome.verdict, outcome.error and [outcome.error.stage, outcome.error.errno], left]))
"""

PRIVILEGED = {
    "rlimit": ("resource.setrlimit(7, (64, 64))", "dict(limits={'limit_nofile': 100})", ["rlimit", errno.EPERM]),
    "nice": ("", "dict(nice=-5)", ["nice", errno.EACCES]),
    "oom_score_adjust": ("", "dict(oom_score_adjust=-5)", ["oom_score_adjust", errno.EACCES]),
    "clone": ("resource.setrlimit(6, (0, 0))", "dict()", ["clone", errno.EAGAIN]),
}


@pytest.mark.requires("ordinary")
@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("stage", PRIVILEGED)
def test_what_needs_privilege_is_a_failed_start_without_it(stage: str) -> None:
    """Forced in a process of an ordinary user, after the facts about the host were read."""
    lower, options, error = PRIVILEGED[stage]
    done = as_ordinary_user(WITHOUT_PRIVILEGE.format(lower=lower, options=options))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["start_failed", error, 0]


@pytest.mark.requires("ordinary")
def test_an_rlimit_above_ones_own_hard_limit_is_refused_before_the_start() -> None:
    """Fail closed: UnsupportedError names the capability."""
    code = "import resource, supervisor\nresource.setrlimit(7, (64, 64))\ntry: supervisor.run(['true'], limits={'limit_nofile': 100})\nexcept supervisor.UnsupportedError as e: print(e)"
    assert "limit_nofile cannot be enforced here: RLIMIT_NOFILE above 64 needs CAP_SYS_RESOURCE" in as_ordinary_user(code).stdout


@pytest.mark.requires("ordinary")
@pytest.mark.parametrize("options", ["user=0", "user='root'", "group=0", "extra_groups=[0]"])
def test_an_ordinary_user_cannot_become_another(options: str) -> None:
    """Refused before anything starts."""
    code = f"import supervisor\ntry: supervisor.run(['true'], {options})\nexcept supervisor.UnsupportedError as e: print('refused:', e)"
    done = as_ordinary_user(code)
    assert done.stdout.startswith("refused: user cannot be enforced here"), done


IN_NAMESPACE = """
import json, os, supervisor
from supervisor.model.spec import Credentials, JobSpec
from supervisor.runtime.oneshot import run_spec
os.environ["RINGFENCE_CGROUP"] = "none"
found = []
for who in (Credentials(groups=(7,)), Credentials(gid=7), Credentials(uid=7)):
    error = run_spec(JobSpec(argv=("true",), credentials=who)).error
    found.append([error.stage, error.errno])
print(json.dumps(found))
"""


@pytest.mark.requires("userns")
def test_ids_that_the_kernel_refuses_are_a_failed_start_at_their_stage() -> None:
    """Root of a user namespace with one user and one group in it."""
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", IN_NAMESPACE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        ["supplementary_groups", errno.EPERM],
        ["group", errno.EINVAL],
        ["user", errno.EINVAL],
    ]


# preexec


@pytest.mark.usefixtures("holder")
def test_a_preexec_callable_that_raises_is_a_failed_start_with_its_words() -> None:
    """The stage preexec, the exception's errno if it has one, its type and text."""

    def broken() -> None:
        raise OSError(errno.ENOSPC, "no room today")

    def odd() -> None:
        raise KeyError("what")

    outcome = supervisor.run(["true"], preexec=[broken])
    assert_failed(outcome, "preexec", errno.ENOSPC)
    assert outcome.error is not None and "no room today" in outcome.error.message
    outcome = supervisor.run(["true"], preexec=[odd])
    assert_failed(outcome, "preexec", errno.EINVAL)
    assert outcome.error is not None and "KeyError: 'what'" in outcome.error.message


@pytest.mark.usefixtures("holder")
def test_a_hook_that_fails_after_a_preexec_callable_keeps_its_own_stage(tmp_path: Path) -> None:
    """The slow path reports like the fast one."""
    assert_failed(supervisor.run(["true"], preexec=[lambda: None], cwd=tmp_path / "gone"), "working_directory", errno.ENOENT)
    assert_failed(supervisor.run([str(tmp_path / "no")], preexec=[lambda: None]), "exec", errno.ENOENT)


# cgroups and the helper


@pytest.mark.requires("cgroup")
def test_a_cgroup_that_vanished_is_a_failed_start_and_the_supervisor_goes_on() -> None:
    """Somebody removed the supervisor's directory: cgroup_create, ENOENT."""
    ground = Ground()
    try:
        assert ground.root is not None
        os.rmdir(os.path.join(ground.root.base, ground.root.name))
        outcome = run_spec(JobSpec(argv=("true",)), ground)
    finally:
        ground.close()
    assert_failed(outcome, "cgroup_create", errno.ENOENT)


@pytest.mark.requires("cgroup")
def test_a_cgroup_of_that_name_is_a_failed_start_and_is_left_alone() -> None:
    """EEXIST: what is not ours is not removed."""
    ground = Ground()
    try:
        assert ground.root is not None
        theirs = os.path.join(ground.root.base, ground.root.name, "job-1")
        os.mkdir(theirs)
        outcome = run_spec(JobSpec(argv=("true",)), ground)
        assert os.path.isdir(theirs)
        os.rmdir(theirs)
    finally:
        ground.close()
    assert_failed(outcome, "cgroup_create", errno.EEXIST)


@pytest.mark.requires("cpuset")
def test_a_value_that_the_kernel_refuses_is_a_failed_start_at_the_write() -> None:
    """A processor no kernel has."""
    outcome = supervisor.run(["true"], limits={"allowed_cpus": "8000"})
    assert outcome.verdict == "start_failed" and outcome.error is not None
    assert outcome.error.stage == "cgroup_write" and outcome.error.errno in (errno.EINVAL, errno.ERANGE)


@pytest.mark.usefixtures("no_cgroup")
def test_a_missing_init_helper_is_ringfences_failure_and_not_the_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """125, not 127: the command itself is there."""
    monkeypatch.setattr("supervisor.kernel.launch.HELPER", str(tmp_path / "gone"))
    outcome = supervisor.run(["true"])
    assert_failed(outcome, "helper", errno.ENOENT)
    assert outcome.exit_status() == 125


@pytest.mark.usefixtures("no_cgroup")
def test_a_plan_larger_than_the_helper_takes_is_a_failed_start() -> None:
    """It answers, and nothing hangs."""
    outcome = supervisor.run(["/bin/true", *["x" * 100_000] * 50])
    assert outcome.verdict == "start_failed" and outcome.error is not None
    assert outcome.exit_status() in (125, 126)


# as an ordinary user: the D-Bus library leaves a socket to the collector when it cannot go on
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.usefixtures("holder")
def test_no_descriptors_left_is_an_error_that_leaves_nothing() -> None:
    """EMFILE while the streams are opened, at every point where it can come; then everything works again."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)  # the lowest number that is free
    os.close(free)
    seen = set()
    try:
        for room in range(32):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, hard))
            try:
                outcome = supervisor.run(["true"], input=b"x", capture_output=True, limits={"limit_nofile": 64})
                seen.add(outcome.verdict)
            except (OSError, supervisor.ConfigError) as error:
                seen.add(type(error).__name__)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "ok" in seen
    assert supervisor.run(["true"]).ok


async def test_a_supervisor_survives_every_failed_start() -> None:
    """Fifty failures of four kinds beside fifty good jobs in one scope."""
    kinds: list[dict[str, Any]] = [
        {"args": ["/no/such"]},
        {"args": ["true"], "cwd": "/gone"},
        {"args": ["true"], "pass_fds": [777]},
        {"args": ["/etc"]},
    ]
    async with supervisor.Supervisor() as sup:
        outcomes = await asyncio.gather(*[sup.run(**(kinds[n % 4] if n % 2 else {"args": ["true"]})) for n in range(100)])
        assert [outcome.verdict for outcome in outcomes] == ["ok", "start_failed"] * 50
        job = await sup.start(["/no/such"])
        assert job.state == "failed" and job.pid == 0 and job.outcome is not None


@pytest.mark.requires("root")
def test_a_user_number_without_an_account_is_good_enough() -> None:
    """Root may run a job as anybody."""
    outcome = supervisor.run(["/usr/bin/id", "-u"], user=54321, group=54321, extra_groups=(), capture_output=True)
    assert outcome.stdout == b"54321\n"
