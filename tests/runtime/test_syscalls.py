# SPDX-License-Identifier: Apache-2.0
"""The system call filter on the real kernel: what is denied fails, is counted and named; the rest works; a flood is bounded."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import facts
import pytest
from programs import as_nobody, probe, python, sh
from sandboxes import REAL_PYTHON, strict
from waiting import Line, wait_dead

import supervisor
from supervisor import ConfigError, Outcome, Sandbox, Supervisor
from supervisor.model.syscall_groups import DENIED, PRESETS
from supervisor.model.syscalls import syscall_numbers

pytestmark = pytest.mark.usefixtures("holder")
MACHINE = os.uname().machine
NUMBERS = syscall_numbers(MACHINE)
X86_ONLY = pytest.mark.skipif(MACHINE != "x86_64", reason="foreign calls are written for x86_64")
NEWUSER, SIGCHLD = 0x10000000, 17


def run(argv: list[str], preset: str = "default", level: str = "none", **more: Any) -> Outcome:
    names = {f"syscalls_{key}": more.pop(key) for key in ("allow", "deny", "kill") if key in more}
    sandbox = {"level": level, "syscalls": preset, **names}
    return supervisor.run(argv, sandbox=sandbox, capture_output=True, start_new_session=True, **more)


def errnos(outcome: Outcome) -> list[int]:
    assert outcome.verdict == "ok", (outcome, outcome.stderr)
    return [int(line) for line in outcome.stdout.split()]


def calls(*given: tuple[str, ...] | str | Any) -> list[str]:
    """The probe's arguments: a name, or a name with arguments."""
    pairs = [(call, ()) if isinstance(call, str) else (call[0], call[1:]) for call in given]
    return [":".join(map(str, (NUMBERS[name], *arguments))) for name, arguments in pairs]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_denied_call_fails_with_its_errno_and_is_named_once(preset: str) -> None:
    """All of the deny list, in every preset."""
    names = [name for group in DENIED.values() for name in group.calls if name in NUMBERS]
    outcome = run(probe("syscalls", *calls(*names)), preset)
    wanted = [errno.ENOSYS if name in DENIED["io-uring"].calls + DENIED["aio"].calls else errno.EPERM for name in names]
    assert dict(zip(names, errnos(outcome), strict=True)) == dict(zip(names, wanted, strict=True))
    assert outcome.denied_syscalls == dict.fromkeys(names, 1)
    assert outcome.enforcement["syscalls"] == f"seccomp filter {preset!r}"
    assert outcome.warnings == ()


def test_arguments_decide_where_the_filter_looks_at_them() -> None:
    """Each with the errno of its rule; what is beside it is let through."""
    given = (
        ("clone", NEWUSER | SIGCHLD, 0, 0, 0, 0),
        ("ioctl", 0, 0x5412, 0),
        ("ioctl", 0, 0x541C, 0),
        ("ioctl", 0, 0xFFFFFFFF00005412 - (1 << 64), 0),
        ("socket", 40, 1, 0),
        ("socket", 38, 5, 0),
        ("socket", 16, 3, 9),
        ("personality", 0x400000),
        ("prctl", 35, 0, 0, 0, 0),
        ("socket", 1, 1, 0),
        ("socket", 16, 3, 0),
        ("personality", 0xFFFFFFFF),
        ("prctl", 3, 0, 0, 0, 0),
    )
    outcome = run(probe("syscalls", *calls(*given)))
    assert errnos(outcome) == [1, 1, 1, 1, 97, 97, 97, 1, 1, 0, 0, 0, 0]
    assert outcome.denied_syscalls == {"socket": 3, "ioctl": 3, "clone": 1, "personality": 1, "prctl": 1}


def test_clone3_is_absent_so_that_threads_and_processes_are_made_by_clone() -> None:
    """The C library falls back; nothing is counted as denied."""
    code = "import os, threading\nt = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\npid = os.fork()\nif not pid: os._exit(0)\nprint(os.waitpid(pid, 0)[1])"
    outcome = run([sys.executable, "-I", "-c", code])
    assert (outcome.verdict, outcome.stdout, outcome.denied_syscalls) == ("ok", b"thread\n0\n", {})
    assert errnos(run(probe("syscalls", *calls(("clone3", 0, 0)), "450000:0"))) == [errno.ENOSYS, errno.ENOSYS]


WORK = {
    "compute": "import math, threading, time\nfor _ in range(3): threading.Thread(target=time.sleep, args=(0.001,)).start()\nopen('x', 'w').write(str(math.factorial(99)))\nprint(len(open('x').read()))",
    "python": "import subprocess, sys, multiprocessing as m, asyncio\nprint(subprocess.run(['/bin/echo', 'hello'], capture_output=True, check=True).stdout)\nq = m.get_context('fork').Queue(); q.put(7); print(q.get())\nprint(asyncio.run(asyncio.sleep(0, 'done')))\nimport tempfile, shutil, os\nwith tempfile.TemporaryDirectory() as d: shutil.copy2(sys.executable, d); print(len(os.listdir(d)))",
    "network": "import socket\nwith socket.create_server(('127.0.0.1', 0)) as s, socket.create_connection(s.getsockname()) as c:\n a, _ = s.accept(); a.sendall(b'hi'); print(c.recv(9)); a.close()\nprint(len(socket.if_nameindex()) > 0, socket.getaddrinfo('127.0.0.1', 80) != [])",
}


@pytest.mark.parametrize("preset", sorted(WORK))
def test_a_preset_lets_its_kind_of_work_pass_with_nothing_denied(preset: str, tmp_path: Path) -> None:
    outcome = run([sys.executable, "-I", "-W", "ignore", "-c", WORK[preset]], preset, cwd=tmp_path)
    assert (outcome.verdict, outcome.denied_syscalls) == ("ok", {}), outcome.stderr


def test_compute_makes_no_process_and_no_socket() -> None:
    outcome = run(
        probe(
            "syscalls",
            *calls(("socket", 2, 1, 0), ("clone", SIGCHLD, 0, 0, 0, 0), ("kill", 0, 0), ("socketpair", 1, 1, 0, 0), ("sendmsg", 1, 0, 0)),
        ),
        "compute",
    )
    assert errnos(outcome) == [97, 1, 1, 1, 1]
    assert outcome.denied_syscalls == {"socket": 1, "clone": 1, "kill": 1, "socketpair": 1, "sendmsg": 1}


def test_the_door_for_the_listener_is_shut_before_the_program_runs() -> None:
    """Neither of the two calls that handed it out is allowed to a program whose preset denies them."""
    outcome = run(probe("syscalls", *calls(("sendmsg", 0, 0, 0x40C0), ("seccomp", 1, 4, 0))), "compute")
    assert errnos(outcome) == [errno.EPERM, errno.EPERM]


def test_no_descriptor_of_the_listener_is_in_the_job() -> None:
    outcome = run(python("import os; print(sorted(os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) > 2))"))
    assert b"seccomp" not in outcome.stdout and b"socket" not in outcome.stdout


def test_names_and_groups_change_the_preset() -> None:
    asked = calls("keyctl", "flock")
    assert errnos(run(probe("syscalls", *asked), allow=["@keyring"], deny=["flock"])) == [errno.EOPNOTSUPP, errno.EPERM]


def test_the_first_denied_call_ends_the_job_where_that_is_asked_for() -> None:
    """Named, and the whole tree with it."""
    script = "sleep 1000 & echo $!; exec $1 -I -S -c 'import ctypes; ctypes.CDLL(None).unshare(0x10000000); print(1)'"
    outcome = run(sh(script, sys.executable), kill=True)
    wait_dead(int(outcome.stdout))  # all that was printed: the second line never came
    assert (outcome.verdict, outcome.limits_hit, outcome.killed, outcome.exit.signal) == ("syscall_denied", ("syscalls",), True, 9)
    assert (outcome.denied_syscalls, outcome.exit_status()) == ({"unshare": 1}, 124)
    assert "denied unshare" in outcome.summary()


def test_a_signal_like_the_filters_own_is_only_a_signal() -> None:
    outcome = run(sh("kill -SYS $$"))
    assert (outcome.verdict, outcome.exit.signal, outcome.limits_hit) == ("signaled", 31, ())


FOREIGN = {
    "i386 call 20": 'long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory"); return r < 0;',
    "x32 call 39": 'long r; __asm__ volatile("syscall" : "=a"(r) : "a"(39 | 0x40000000) : "rcx", "r11", "memory"); return 3;',
}


@X86_ONLY
@pytest.mark.requires("cc")
@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_a_call_of_a_foreign_architecture_ends_the_job_and_is_named(name: str, tmp_path: Path) -> None:
    made = tmp_path / "foreign"
    subprocess.run(["cc", "-x", "c", "-o", made, "-"], input=f"int main(void) {{ {FOREIGN[name]} }}", text=True, check=True)
    outcome = run([str(made)])
    assert (outcome.verdict, outcome.denied_syscalls, outcome.killed) == ("syscall_denied", {name: 1}, True)


def test_a_flood_of_denied_calls_is_cut_and_costs_the_supervisor_little() -> None:
    """From four threads: a thousand are answered and counted, then the kernel fails them by itself."""
    code = (
        "import ctypes, threading\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "def flood():\n for _ in range(20000): libc.unshare(0x10000000)\n print(ctypes.get_errno())\n"
        "t = [threading.Thread(target=flood) for _ in range(4)]\n[x.start() for x in t]\n[x.join() for x in t]"
    )
    begun = time.process_time()
    outcome = run([sys.executable, "-I", "-c", code])
    spent = time.process_time() - begun
    assert outcome.stdout.split() == [b"38"] * 4  # ENOSYS: nobody listens any more
    assert outcome.denied_syscalls == {"unshare": 1000}
    assert any("first 1000 denied system calls" in warning for warning in outcome.warnings)
    assert spent < 2.0


def test_processes_that_the_job_makes_are_under_the_filter_too() -> None:
    outcome = run(sh("$1 -I -S $2 $3 & wait; exec $1 -I -S $2 $3", sys.executable, *probe("syscalls")[-1:], *calls("mount")))
    assert outcome.stdout.split() == [b"1", b"1"]
    assert outcome.denied_syscalls == {"mount": 2}


def test_a_filter_inside_a_filter_denies_without_names_and_says_so() -> None:
    """The kernel has one listener for a process: our own surroundings hold it."""
    code = (
        "import sys, supervisor\n"
        "o = supervisor.run(sys.argv[1:], sandbox={'syscalls': 'default'}, capture_output=True)\n"
        "print(o.verdict, o.stdout.decode().split(), o.denied_syscalls, 'not named' in o.warnings[0])"
    )
    outcome = run([sys.executable, "-c", code, *probe("syscalls", *calls("mount"))])
    assert (outcome.verdict, outcome.stdout, outcome.denied_syscalls) == ("ok", b"ok ['1'] {} True\n", {}), outcome.stderr


def test_python_callables_come_before_the_filter() -> None:
    outcome = run(probe("syscalls", *calls("mount")), preexec=(lambda: os.putenv("x", "y"),))
    assert (errnos(outcome), outcome.denied_syscalls) == ([1], {"mount": 1})
    assert run(["/no/such/program"], "compute", preexec=(lambda: None,)).verdict == "start_failed"


def test_a_program_that_cannot_be_run_is_told_from_under_the_filter() -> None:
    outcome = run(["/no/such/program"], "compute")
    assert outcome.error is not None
    assert (outcome.verdict, outcome.error.stage, outcome.error.errno) == ("start_failed", "exec", errno.ENOENT)


def test_set_user_id_programs_gain_nothing_under_a_filter() -> None:
    """The kernel asks for it, and a denied call must not confuse a program with privileges."""
    assert b"NoNewPrivs:\t1" in run(["/bin/cat", "/proc/self/status"]).stdout


def test_a_job_without_a_filter_has_none() -> None:
    assert b"Seccomp:\t0" in run(["/bin/cat", "/proc/self/status"], "none").stdout


@pytest.mark.requires("userns", "mount")
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_strict_sandbox_has_the_filter_around_the_job_and_not_around_what_builds_it(preset: str) -> None:
    """The listener comes out of all the namespaces."""
    code = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); print(libc.unshare(0x10000000), ctypes.get_errno())"
    outcome = run(["/usr/bin/python3", "-I", "-S", "-c", code], preset, "strict")
    assert (outcome.verdict, outcome.stdout, outcome.denied_syscalls) == ("ok", b"-1 1\n", {"unshare": 1}), outcome
    ended = run(["/usr/bin/python3", "-I", "-S", "-c", code], preset, "strict", kill=True)
    assert (ended.verdict, ended.denied_syscalls) == ("syscall_denied", {"unshare": 1}), ended


@pytest.mark.requires("userns", "mount")
def test_a_strict_sandbox_has_the_default_filter_unless_told_otherwise() -> None:
    asked = ["/bin/sh", "-c", "grep Seccomp: /proc/self/status"]
    outcome = supervisor.run(asked, sandbox="strict", capture_output=True)
    assert (outcome.stdout, outcome.enforcement["syscalls"]) == (b"Seccomp:\t2\n", "seccomp filter 'default'")
    plain = supervisor.run(asked, sandbox={"level": "strict", "syscalls": "none"}, capture_output=True)
    assert plain.stdout == b"Seccomp:\t0\n" and "syscalls" not in plain.enforcement


def test_wrong_names_are_refused_with_the_sandbox() -> None:
    with pytest.raises(ConfigError, match="'ptrase' is not a system call; did you mean 'ptrace'"):
        Sandbox(syscalls_deny=("ptrase",))
    with pytest.raises(ConfigError, match="'pyhton' is not a preset; did you mean 'python'"):
        Sandbox(syscalls="pyhton")


def test_what_cannot_be_denied_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"execve.*cannot be denied"):
        run(["/bin/true"], deny=["execve"])


async def test_jobs_side_by_side_are_answered_each_by_its_own_filter() -> None:
    """Two dozen at once, three kinds of denied calls, no cross-talk."""
    kinds = (("mount", errno.EPERM), ("io_uring_setup", errno.ENOSYS), ("fsync", errno.EBADF))
    sandboxes = [Sandbox(syscalls="default"), Sandbox(syscalls="default"), Sandbox(syscalls="default", syscalls_deny=("unshare",))]
    async with Supervisor() as sup:
        jobs = []
        for n in range(24):
            name, _ = kinds[n % 3]
            jobs.append(await sup.start(probe("syscalls", *calls(*[name] * (n + 1))), sandbox=sandboxes[n % 3], capture_output=True))
        for n, job in enumerate(jobs):
            outcome = await job.wait()
            name, error = kinds[n % 3]
            assert errnos(outcome) == [error] * (n + 1)
            assert outcome.denied_syscalls == ({} if name == "fsync" else {name: n + 1})


async def test_a_job_in_the_middle_of_denied_calls_is_paused_resumed_and_ended() -> None:
    """The freezer reaches a task that waits for its answer."""
    code = "import ctypes, os, sys\nlibc = ctypes.CDLL(None)\nos.write(int(sys.argv[1]), b'ready\\n')\nwhile True: libc.unshare(0x10000000)"
    with Line() as line:
        async with Supervisor() as sup:
            job = await sup.start(python(code, line.end), sandbox=Sandbox(syscalls="default"), pass_fds=(line.end,))
            await asyncio.to_thread(line.read)
            await job.pause()
            assert job.state == "paused"
            await job.resume()
            await job.kill()
            outcome = await job.wait()
        line.wait_closed()
    assert outcome.verdict == "cancelled"
    assert set(outcome.denied_syscalls) <= {"unshare"}


#: Has as many descriptors under way as its argument says, in packets that nobody receives.
UNDER_WAY = (
    "import array, os, socket, sys\n"
    "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    "rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1] * 100))\n"
    "for _ in range(int(sys.argv[1]) // 100): ours.sendmsg([b'x'], [rights])\n"
    "print('under way', flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.mark.parametrize("denied", [(), ("prlimit64",), ("sendmsg", "prlimit64")], ids=["allowed", "denied", "both-denied"])
def test_a_small_limit_of_descriptors_does_not_keep_the_listener_from_us(denied: tuple[str, ...]) -> None:
    """Its user has more descriptors under way than the job may have open: the kernel would not send one more (ETOOMANYREFS)."""
    who = as_nobody()
    with subprocess.Popen([facts.ordinary_python(), "-c", UNDER_WAY, "200"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **who) as user:
        assert user.stdin is not None and user.stdout is not None and user.stdout.readline() == b"under way\n"
        outcome = run(["grep", "open files", "/proc/self/limits"], deny=denied, limits={"limit_nofile": 30}, **who)
        user.stdin.close()
    assert outcome.verdict == "ok" and outcome.stdout is not None, (outcome, outcome.stderr)
    assert outcome.stdout.split()[3:5] == [b"30", b"30"]
    assert set(outcome.denied_syscalls) <= {*denied}


#: Raises its limit and has as many descriptors under way as the kernel lets it.
GREEDY = """
import array, resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1] * 250))
pairs = []
try:
    while True:
        pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        for _ in range(8): pairs[-1][0].sendmsg([b"x"], [rights], socket.MSG_DONTWAIT)
except OSError as error: print(error.errno, flush=True)
sys.stdin.read()
"""


@pytest.mark.requires("mount")
async def test_a_job_with_all_the_descriptors_it_can_have_under_way_does_not_keep_others_from_starting() -> None:
    """They have the same user, and the job may raise its own limit above the soft one with which the next one is started."""
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        async with Supervisor() as sup:
            greedy = await sup.start(
                [REAL_PYTHON, "-I", "-S", "-c", GREEDY], sandbox=strict(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert greedy.stdout is not None and int(await greedy.stdout.readline()) == errno.ETOOMANYREFS
            limits = ["sh", "-c", "ulimit -Sn; ulimit -Hn"]
            outcome = await sup.run(limits, sandbox="strict", capture_output=True, text=True)
            await greedy.kill()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert outcome.verdict == "ok", outcome
    assert outcome.stdout is not None and outcome.stdout.split() == [str(min(soft, 512, hard // 2)), str(hard // 2)]
