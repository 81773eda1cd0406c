# SPDX-License-Identifier: Apache-2.0
"""From an ``isolate ... --run`` command line: its limits, and its box as a strict sandbox."""

from __future__ import annotations

from supervisor.model.convert.converted import Conversion
from supervisor.model.isolate_options import isolate_limits, parse_isolate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from supervisor.model.convert.converted import Converted
    from supervisor.model.isolate_options import IsolateOptions
    from supervisor.model.isolate_rules import DirRule

#: Where each limit comes from, in isolate's own words.
REASONS: Final = {
    "cpu_time_max": "--time, or --extra-time where that is more",
    "wall_time_max": "--wall-time",
    "memory_max": "--cg-mem, in KiB",
    "tasks_max": "--processes; isolate's default is one",
    "limit_as": "--mem, in KiB, of each process",
    "limit_fsize": "--fsize, in KiB",
    "limit_stack": "--stack; unlimited by default",
    "limit_core": "--core; none by default",
    "limit_nofile": "--open-files; 64 or 1024 by default",
    "limit_memlock": "isolate locks no memory",
}
#: Options that say how one run goes, not what it may use.
_OF_THE_RUN: Final = {
    "meta": "--meta: say --result, which writes JSON",
    "stdin": "--stdin: said when the job is started",
    "stdout": "--stdout: said when the job is started",
    "stderr": "--stderr: said when the job is started",
    "stderr_to_stdout": "--stderr-to-stdout: said when the job is started",
    "chdir": "--chdir: say --working-directory",
    "box_id": "--box-id: jobs need no numbers, any number of them run side by side",
    "env": "--env: say --setenv",
    "inherit_fds": "--inherit-fds: descriptors are passed by the API alone (pass_fds)",
    "tty_hack": "--tty-hack: say --pty",
    "special_files": "--special-files: files a job leaves are looked at when they are collected",
    "quota": "--quota: of a disk's user; tmp_size and tmp_inodes bound the private /tmp",
    "as_uid": "--as-uid and --as-gid: say --user",
    "syscalls": "--syscalls: choose a preset with syscalls",
    "wait": "--wait: jobs do not share a box, so none waits for one",
}


def convert_isolate(argv: Sequence[str]) -> Converted:
    """The profile of the words behind ``isolate``; raises :class:`ConfigError` for words isolate would refuse."""
    options = parse_isolate(argv)
    made = Conversion("an isolate command line")
    for name, amount in isolate_limits(options).given().items():
        made.amount(name, amount, REASONS[name])
    if options.cg_mem_bytes:
        made.limit("memory_swap_max", 0, "isolate gives such a box no swap")
    made.world("level", "strict", "isolate's box: namespaces and a root of chosen directories")
    if options.share_net:
        made.world("network", "host", "--share-net")
    else:
        made.world("network", "none", "isolate's default")
    _binds(options, made)
    unlike = type(options)(command="run")
    made.lost += [words for field, words in _OF_THE_RUN.items() if getattr(options, field) != getattr(unlike, field)]
    if options.full_env:
        made.world("clear_env", False, "--full-env")
    if options.time_ns and options.extra_time_ns > options.time_ns:
        made.lost.append("--time below --extra-time: one limit of processor time ends the job and names the verdict")
    if options.argv:
        made.lost.append(f"the command: {' '.join(options.argv)[:120]}")
    return made.result()


def _binds(options: IsolateOptions, made: Conversion) -> None:
    binds = []
    for rule in options.dirs:
        if rule.default:
            continue
        if rule.outside is None or not rule.outside.startswith("/") or rule.options & {"dev", "fs", "tmp", "norec", "maybe", "noexec"}:
            made.lost.append(f"--dir={_rule(rule)}: {_why(rule)}")
            continue
        binds.append(
            {"source": "/" + rule.outside.lstrip("/"), "target": "/" + rule.inside, "mode": "rw" if "rw" in rule.options else "ro"}
        )
    if binds:
        made.world("bind", binds, "--dir")


def _rule(rule: DirRule) -> str:
    return ":".join([f"{rule.inside}={rule.outside or ''}", *sorted(rule.options)])


def _why(rule: DirRule) -> str:
    if "tmp" in rule.options:
        return "a strict sandbox has a /tmp of its own, and no other"
    if "fs" in rule.options:
        return "a strict sandbox mounts its /proc and /dev/shm itself"
    if rule.outside is not None and rule.outside.startswith("./"):
        return "a path in isolate's box; bind a directory of your own"
    return f"the options {', '.join(sorted(rule.options))} have no counterpart; bind it yourself, without device files"
