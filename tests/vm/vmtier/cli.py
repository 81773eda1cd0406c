"""The commands behind the scripts: prepare, run, wheelhouse."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vmtier import image, tree, wheels
from vmtier.cache import CHECKOUT, held, say, scratch
from vmtier.errors import Interrupted, VmError
from vmtier.machine import JOB_SIZE, Machine
from vmtier.session import Ended, Session, Step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

EXIT_VM = 125
TREE = "/job/tree"
USERS = ("root", "user", "login")
KERNEL_LINES = 20


def main(arguments: Sequence[str]) -> int:
    parser = make_parser()
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        if options.action == "prepare":
            folder = image.prepare(options.suite)
            say(f"guest image: {folder}")
            return 0
        if options.action == "wheelhouse":
            return wheelhouse(options.tree, options.suite)
        return run(parser, options)
    except VmError as error:
        say(str(error))
        return EXIT_VM
    except BrokenPipeError:  # nobody reads our output any more
        return 128 + signal.SIGPIPE
    except Interrupted as stop:
        say(f"stopped by {signal.Signals(stop.number).name}")
        return 128 + stop.number


def interrupted(number: int, _frame: FrameType | None) -> NoReturn:
    # A second signal must not break the clean-up that the first one started.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/vm")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("prepare", prog="tests/vm/prepare", help="build the guest image and its snapshot")
    made = actions.add_parser("wheelhouse", prog="tests/vm/wheelhouse", help="fetch and build wheels for the guest")
    made.add_argument("--tree", type=Path, default=CHECKOUT, help="where the project's own wheel is built from")
    ran = actions.add_parser("run", prog="tests/vm/run", help="run commands in the guest")
    who = ran.add_mutually_exclusive_group()
    who.add_argument("--root", dest="who", action="store_const", const="root", help="as root (the default)")
    for name, text in (("user", "as tester, in a delegated user scope"), ("login", "as tester, in a login session")):
        who.add_argument(f"--{name}", dest="who", action="store_const", const=name, help=text)
    ran.add_argument(
        "--step",
        nargs=2,
        action="append",
        default=[],
        metavar=("USER", "COMMAND"),
        help="a shell command to run as root, user or login; may be given again, each step runs whatever came before",
    )
    ran.add_argument("--timeout", type=float, default=600.0, metavar="S", help="seconds for each step (default 600)")
    ran.add_argument("--tree", type=Path, default=CHECKOUT, metavar="DIR", help="what to put at /job/tree")
    ran.add_argument("--no-wheel", action="store_true", help="do not build the project's wheel")
    ran.add_argument("--out", type=Path, metavar="DIR", help="where to put what the commands wrote to /out")
    ran.add_argument("--report", type=Path, metavar="FILE", help="write how each step ended, as JSON")
    for action in actions.choices.values():
        action.add_argument(
            "--suite",
            choices=image.SUITES,
            default=os.environ.get("RINGFENCE_VM_SUITE", "trixie"),
            help="the guest's Debian release (default: RINGFENCE_VM_SUITE, or trixie)",
        )
    ran.add_argument("command", nargs="*", metavar="COMMAND", help="after --: what to run")
    return parser


def wheelhouse(source: Path, suite: str) -> int:
    print(wheels.third_party(image.SUITES[suite]))
    source = source.resolve()
    own = wheels.own_wheel(source, tree.tree_files(source))
    if own is None:
        say("no pyproject.toml yet: only the third-party wheels")
    else:
        print(own)
    return 0


def plan(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Step]:
    if options.step and (options.command or options.who):
        parser.error("give either --step or one COMMAND")
    if options.step:
        for who, _ in options.step:
            if who not in USERS:
                parser.error(f"--step: {who!r} is none of {', '.join(USERS)}")
        return [Step(who, ("/bin/sh", "-c", command)) for who, command in options.step]
    if not options.command:
        parser.error("no COMMAND given; put it after --")
    return [Step(options.who or "root", tuple(options.command))]


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    steps = plan(parser, options)
    base = image.prepare(options.suite)
    endings: list[Ended] = []
    with held(base), scratch("run") as folder:
        started = time.monotonic()
        job = make_job(options.tree.resolve(), folder, wheel=not options.no_wheel)
        built = time.monotonic()
        with Machine(base, folder, (base / "accel").read_text(), job=job, restore=True) as machine:
            session = Session(machine)
            try:
                session.begin()
                say(f"tree disk {built - started:.1f} s, restored {time.monotonic() - built:.1f} s")
                for step in steps:
                    before = session.kernel_log()
                    endings.append(session.run(step, options.timeout, TREE))
                    tell(endings[-1], session, before, many=len(steps) > 1)
                if options.out:
                    session.collect(options.out, folder)
                    (options.out / "kernel.log").write_text(session.kernel_log())
            except VmError:
                if options.out:
                    options.out.mkdir(parents=True, exist_ok=True)
                    shutil.copy(machine.console, options.out / "console.log")
                raise
            finally:
                if options.report:
                    options.report.write_text(json.dumps([as_json(ended) for ended in endings], indent=2) + "\n")
    return next((ended.status for ended in endings if ended.status), 0)


def make_job(source: Path, folder: Path, *, wheel: bool) -> Path:
    content = folder / "job"
    files = tree.tree_files(source)
    tree.copy_files(source, files, content / "tree")
    own = wheels.own_wheel(source, files) if wheel else None
    if own is not None:
        tree.unpack_wheel(own, content)
        (content / "wheels").mkdir()
        (content / "wheels" / own.name).write_bytes(own.read_bytes())
    disk = folder / "job.img"
    tree.make_disk(content, disk, JOB_SIZE)
    return disk


def tell(ended: Ended, session: Session, before: str, *, many: bool) -> None:
    """Say how a step ended when that is not plain from our exit status, and show the kernel's view of a failure."""
    if ended.timed_out:
        say(f"timed out after {ended.seconds:.0f} s and was killed: {ended.step.title()}")
    elif many:
        say(f"status {ended.status} after {ended.seconds:.1f} s: {ended.step.title()}")
    if ended.status:
        lines = session.kernel_log().removeprefix(before).strip().splitlines()[-KERNEL_LINES:]
        if lines:
            say("the guest kernel's last lines:\n" + "\n".join(lines))


def as_json(ended: Ended) -> dict[str, object]:
    return {
        "as": ended.step.kind,
        "argv": ended.step.argv,
        "status": ended.status,
        "seconds": round(ended.seconds, 3),
        "timed_out": ended.timed_out,
    }
