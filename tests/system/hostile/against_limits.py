# SPDX-License-Identifier: Apache-2.0
"""Scenarios 1 to 31: programs that want more tasks, memory, files, output or time than they may have."""

from __future__ import annotations

from typing import Final

from scenario import CPU_SLACK_NS, MIB, Scenario, ended, printed, require

from supervisor import Outcome

BOTH: Final = ("strict", "none")
FORKS: Final = {"tasks_max": 48, "cpu_time_max": "2s"}
SMALL: Final = {"memory_max": 32 * MIB}
SECOND_NS: Final = 1_000_000_000
#: The kernel charges memory in batches of 64 pages, one for each processor.
BATCH_BYTES: Final = 2 * MIB


def all_tasks_were_had(outcome: Outcome) -> None:
    require(outcome.usage.tasks_peak == FORKS["tasks_max"], outcome)


def stayed_below(limit_bytes: int) -> object:
    def proof(outcome: Outcome) -> None:
        require(outcome.usage.memory_peak_bytes is not None and outcome.usage.memory_peak_bytes <= limit_bytes + BATCH_BYTES, outcome)
        require("memory_max" not in outcome.limits_hit or outcome.verdict == "memory_limit", outcome)

    return proof


def ended_at_its_memory(outcome: Outcome) -> None:
    peak = outcome.usage.memory_peak_bytes
    require(peak is not None and peak <= 32 * MIB + BATCH_BYTES, outcome)
    require(outcome.exit.signal == 9 and outcome.killed, outcome)


def nothing_was_swapped(outcome: Outcome) -> None:
    ended_at_its_memory(outcome)
    require(not outcome.usage.swap_peak_bytes, outcome)


def no_room_to_start(outcome: Outcome) -> None:
    require(outcome.error is not None and "memory_max" in outcome.error.message, outcome)


def used_about_a_second(outcome: Outcome) -> None:
    require(outcome.usage.cpu_ns is not None and SECOND_NS <= outcome.usage.cpu_ns <= SECOND_NS + CPU_SLACK_NS, outcome)


def used_no_time(outcome: Outcome) -> None:
    require(outcome.usage.cpu_ns is not None and outcome.usage.cpu_ns < SECOND_NS // 2, outcome)


def killed_by_force(outcome: Outcome) -> None:
    require(outcome.exit.signal == 9 and outcome.usage.cpu_ns is not None and outcome.usage.cpu_ns >= SECOND_NS // 2, outcome)


def verdict_is_what_was_used(outcome: Outcome) -> None:
    """Above the limit is cpu_limit, whoever was quicker; below it is not."""
    used = outcome.usage.cpu_ns
    require(used is not None and (used > SECOND_NS // 2) == (outcome.verdict == "cpu_limit"), outcome)
    require(outcome.killed or outcome.exit.signal is None, outcome)


def output_is_cut(outcome: Outcome) -> None:
    sizes = [len(stream) for stream in (outcome.stdout, outcome.stderr) if stream is not None]
    require(outcome.truncated and sum(sizes) == 256 << 10, outcome)


def every_byte_is_there(outcome: Outcome) -> None:
    require(outcome.stdout == bytes(range(256)), outcome)


def main_decided(outcome: Outcome) -> None:
    require(outcome.stdout == b"done\n" and outcome.usage.wall_ns is not None and outcome.usage.wall_ns < 15 * SECOND_NS, outcome)


def _memory(number: int, kind: str, does: str, by: str, **more: object) -> Scenario:
    given = {"verdicts": ("memory_limit",), "limits": SMALL, "requires": ("memory",), "hits": ("memory_max",), "proof": ended_at_its_memory}
    return Scenario(number=number, program="memory.py", args=(kind,), does=does, by=by, **{**given, **more})  # type: ignore[arg-type]


AGAINST_LIMITS: Final = (
    *[
        Scenario(
            number=number,
            program=program,
            does=does,
            verdicts=("cpu_limit", "wall_limit"),
            limits=FORKS,
            levels=BOTH,
            hits=("tasks_max",),
            requires=("pids",),
            proof=all_tasks_were_had,
            by="cgroup pids.max, cgroup.kill",
        )
        for number, program, does in (
            (1, "fork_bomb.c", "fork bomb of processes"),
            (2, "thread_bomb.c", "fork bomb of threads"),
            (3, "setsid_bomb.c", "fork bomb in which each child leaves its session"),
        )
    ],
    Scenario(
        number=4,
        program="relay.c",
        does="chains of processes that start the next by vfork and exec, and end: no pid is worth a signal",
        verdicts=("wall_limit",),
        limits={"wall_time_max": "1s", "tasks_max": 64},
        levels=BOTH,
        requires=("pids",),
        by="cgroup.kill, the end of the pid namespace",
    ),
    _memory(5, "touch", "allocates and uses memory without end", "cgroup memory.max", levels=BOTH),
    Scenario(
        number=6,
        program="memory.py",
        args=("reserve",),
        does="reserves 100 GiB of addresses and uses none",
        limits={"memory_max": 48 * MIB},
        requires=("memory",),
        proof=printed("held 100 GiB"),
        by="cgroup memory.max counts what is used; no RLIMIT_AS",
    ),
    Scenario(
        number=7,
        program="copy_on_write.py",
        args=("read",),
        does="five processes read 24 MiB that they share",
        limits={"memory_max": 80 * MIB},
        requires=("memory",),
        proof=printed("all five hold it"),
        by="cgroup memory.max counts a page once",
    ),
    Scenario(
        number=7,
        program="copy_on_write.py",
        args=("write",),
        does="five processes each change 24 MiB that they shared",
        verdicts=("memory_limit",),
        limits={"memory_max": 80 * MIB},
        hits=("memory_max",),
        requires=("memory",),
        by="cgroup memory.max of the whole job",
    ),
    Scenario(
        number=8,
        program="fill.py",
        args=("/tmp", "/dev/shm"),
        does="fills /tmp and /dev/shm",
        sandbox={"tmp_size": "8M", "shm_size": "4M"},
        refuses=2,
        by="size of the private tmpfs",
    ),
    Scenario(
        number=8,
        program="fill.py",
        args=("/tmp",),
        does="fills a /tmp that is larger than its memory",
        sandbox={"tmp_size": "512M"},
        verdicts=("memory_limit",),
        limits=SMALL,
        hits=("memory_max",),
        requires=("memory",),
        by="cgroup memory.max: a tmpfs is memory of the job",
    ),
    _memory(9, "memfd", "hides memory in a memfd", "cgroup memory.max"),
    _memory(9, "sysv", "hides memory in a SysV segment", "cgroup memory.max; gone with the ipc namespace"),
    _memory(
        9,
        "huge",
        "maps huge pages",
        "the host offers none; hugetlb is not a limit of this version",
        verdicts=("ok",),
        hits=(),
        proof=None,
        refuses=1,
    ),
    Scenario(
        number=10,
        program="page_cache.py",
        does="reads ten times its memory from files",
        limits=SMALL,
        requires=("memory",),
        proof=printed("read 320 MiB"),
        by="the kernel reclaims the page cache: no limit is hit",
    ),
    Scenario(
        number=11,
        program="dirty.py",
        args=("{DISK}",),
        does="writes three times its memory to a disk",
        verdicts=("ok", "wall_limit"),
        limits={**SMALL, "wall_time_max": "40s"},
        sandbox={"bind": ("{DISK}:{DISK}:rw",)},
        requires=("memory", "disk"),
        by="the kernel writes back and waits; no false memory_limit",
    ),
    _memory(
        12,
        "pipes",
        "fills thousands of pipes: memory of the kernel",
        "cgroup memory.max counts kernel memory; limit_nofile",
        limits={**SMALL, "limit_nofile": 4096},
    ),
    _memory(
        13,
        "lock",
        "locks its memory",
        "RLIMIT_MEMLOCK, no CAP_IPC_LOCK",
        verdicts=("ok",),
        hits=(),
        proof=None,
        refuses=1,
        limits={"limit_memlock": "64K"},
        requires=(),
    ),
    _memory(
        14,
        "touch",
        "wants swap beyond its memory",
        "cgroup memory.swap.max, 0 unless given",
        requires=("memory", "swap"),
        proof=nothing_was_swapped,
    ),
    _memory(15, "child", "one child is out of memory, the parent goes on and exits 0", "cgroup memory.oom.group: never ok", levels=BOTH),
    Scenario(
        number=16,
        program="cgroups.py",
        does="makes a cgroup of its own to die in",
        refuses=19,
        proof=printed("in 0::/"),
        by="no cgroup file system inside, cgroup namespace, no mounts",
    ),
    Scenario(
        number=17,
        play="crowded_host",
        does="the host is out of memory, the job below its limit",
        verdicts=("host_oom",),
        requires=("vm", "root", "memory"),
        alone=True,
        by="an OOM kill without an OOM event at the job's limit",
    ),
    Scenario(
        number=18,
        program="static_array.c",
        does="a static array larger than its memory",
        verdicts=("memory_limit",),
        limits=SMALL,
        levels=BOTH,
        hits=("memory_max",),
        requires=("memory",),
        proof=ended_at_its_memory,
        by="cgroup memory.max, when it is used",
    ),
    Scenario(
        number=19,
        program="static_array.c",
        args=("tiny",),
        does="a limit too small to start with",
        verdicts=("start_failed",),
        limits={"memory_max": "64K"},
        requires=("memory",),
        proof=no_room_to_start,
        by="the kernel's kill inside exec; set-up is not charged to the job",
    ),
    Scenario(
        number=20,
        program="descriptors.py",
        does="opens descriptors until there are no more",
        verdicts=("nonzero_exit",),
        limits={"limit_nofile": 256},
        refuses=1,
        proof=ended(code=7),
        by="RLIMIT_NOFILE; the job's own end decides",
    ),
    *[
        Scenario(
            number=21,
            program="flood.py",
            args=(fd,),
            does=f"floods standard {name}",
            verdicts=("output_limit",),
            limits={"output_max": "256K"},
            levels=BOTH,
            hits=("output_max",),
            proof=output_is_cut,
            by="counted on the way by the supervisor",
        )
        for fd, name in (("1", "output"), ("2", "error"))
    ],
    Scenario(
        number=22,
        program="drip.py",
        does="drips bytes that are no text, without a line's end",
        proof=every_byte_is_there,
        by="output is bytes",
    ),
    Scenario(
        number=23,
        program="silent.py",
        does="closes its output and goes on",
        verdicts=("wall_limit",),
        limits={"wall_time_max": "1s"},
        by="the end of output is no end of the job",
    ),
    Scenario(
        number=24,
        program="grandchild.sh",
        does="a grandchild keeps the output open after the main process has ended",
        levels=BOTH,
        requires=("cgroup",),
        proof=main_decided,
        by="the job ends with its main process; the rest is killed, the reader is not blocked",
    ),
    Scenario(
        number=25,
        program="sleep.sh",
        does="sleeps for ever",
        verdicts=("wall_limit",),
        limits={"wall_time_max": "1s"},
        levels=BOTH,
        proof=used_no_time,
        by="timer on CLOCK_MONOTONIC",
    ),
    Scenario(
        number=26,
        program="deaf.py",
        does="ignores every signal and spins",
        verdicts=("cpu_limit",),
        limits={"cpu_time_max": "500ms"},
        levels=BOTH,
        proof=killed_by_force,
        by="SIGKILL after the grace",
    ),
    *[
        Scenario(
            number=number,
            program=program,
            does=does,
            verdicts=("cpu_limit",),
            limits={"cpu_time_max": "1s"},
            levels=BOTH,
            hits=("cpu_time_max",),
            requires=("cgroup",),
            proof=used_about_a_second,
            by="cgroup cpu.stat of the whole job, looked at when it can be over",
        )
        for number, program, does in (
            (27, "burn_threads.c", "spins in four threads"),
            (28, "burn_children.c", "burns time in children that live some milliseconds, and in a daemon"),
        )
    ],
    Scenario(
        number=29,
        program="on_the_edge.py",
        args=("0.499",),
        does="ends by itself between its limit and the look at it",
        verdicts=("ok", "cpu_limit"),
        limits={"cpu_time_max": "500ms"},
        requires=("cgroup",),
        proof=verdict_is_what_was_used,
        by="the final figure decides, killed or not",
    ),
    Scenario(
        number=30,
        program="priority.py",
        does="wants a higher priority and all processors",
        limits={"allowed_cpus": "0"},
        refuses=3,
        requires=("cpuset",),
        proof=printed("processors [0]"),
        by="no capability, RLIMIT_NICE and RTPRIO; cgroup cpuset.cpus",
    ),
    Scenario(
        number=31,
        program="stop_itself.py",
        does="stops itself and its group",
        verdicts=("wall_limit",),
        limits={"wall_time_max": "1s"},
        by="SIGKILL reaches what is stopped",
    ),
)
