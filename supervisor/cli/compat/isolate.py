# SPDX-License-Identifier: Apache-2.0
"""``ringfence compat isolate``: the command line of the IOI's isolate on our engine.

Boxes are directories below the state directory. A program of ``--run`` gets a fresh cgroup, so nothing
of an earlier run is counted, and a strict sandbox that shows it what isolate would. Where none can be
built a run is refused, unless RINGFENCE_COMPAT_SANDBOX=none says that limits alone will do.
"""

from __future__ import annotations

import os

from supervisor.cli.foreground import Foreground, complain, fill_closed_streams, inherited_descriptors, print_text, write_whole
from supervisor.errors import ConfigError, SupervisorError, UnsupportedError
from supervisor.kernel.box import Box
from supervisor.kernel.state_directory import state_directory
from supervisor.model.isolate_options import IsolateOptions, isolate_limits, parse_isolate
from supervisor.model.isolate_result import BROKEN, IsolateResult, broken_result, isolate_result
from supervisor.model.isolate_rules import apply_env_rules
from supervisor.model.limit_kinds import Rlimit
from supervisor.model.spec import STDOUT, Credentials, JobSpec
from supervisor.model.units import INFINITY
from supervisor.model.value import replace
from supervisor.runtime.oneshot import Ground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.kernel.files import ResultFile
    from supervisor.model.limits import Limits
    from supervisor.model.outcome import Outcome
    from supervisor.model.sandbox import Sandbox

SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM = 1, 2, 3, 10, 12, 15
#: The first of the users that programs in boxes run as, one a box, when we are root: isolate's default, first_uid.
FIRST_UID: Final = 60000
#: The file in isolate's words → how isolate opens it.
STREAMS: Final = {"stdin": os.O_RDONLY, "stdout": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "stderr": os.O_WRONLY | os.O_CREAT | os.O_TRUNC}
SANDBOX_VARIABLE: Final = "RINGFENCE_COMPAT_SANDBOX"
USAGE: Final = """usage: ringfence compat isolate [OPTION...] --init | --run -- PROGRAM [ARG...] | --cleanup

The options of isolate(1), with its units: kilobytes, and seconds with a fraction.
-b, --box-id  -M, --meta  -i, --stdin  -o, --stdout  -r, --stderr  --stderr-to-stdout  -c, --chdir
-t, --time  -w, --wall-time  -x, --extra-time  -m, --mem  -k, --stack  -f, --fsize  -n, --open-files
--core  -p, --processes  --cg  --cg-mem  -E, --env  -e, --full-env  -d, --dir  -D, --no-default-dirs
--share-net  --inherit-fds  --special-files  --wait  -s, --silent  -v, --verbose  --as-uid  --as-gid
Also --print-cg-root, --check-config and --version. Refused: --quota, --syscalls, --tty-hack.

exit status: 0 the program ended well, 1 it did not, 2 the sandbox failed or refused"""


def isolate(argv: list[str]) -> int:
    """Carry out one command line; returns isolate's exit status."""
    fill_closed_streams()
    try:
        options = parse_isolate(argv)
    except ConfigError as error:
        complain(str(error), "isolate")
        complain("try 'ringfence compat isolate --help' for more information", "isolate")
        return BROKEN
    os.umask(0o022)  # isolate's, also for what its programs create
    command = _Command(options)
    try:
        return command.run()
    except (SupervisorError, OSError) as error:
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        text = f"{where}{error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
        return command.tell(broken_result(text))
    finally:
        command.close()


class _Command:
    """One command line: its box while it works on one, and its meta file."""

    def __init__(self, options: IsolateOptions) -> None:
        self._options = options
        self._box: Box | None = None
        self._meta: ResultFile | None = None
        self._opened: list[int] = []
        self._interrupted = 0
        self._foreground: Foreground | None = None

    def run(self) -> int:
        options = self._options
        if options.command == "help":
            print_text(USAGE)
            return 0
        if options.command == "version":
            from supervisor import __version__

            print_text(f"The process isolator of ringfence {__version__}, with the options of isolate 2.6")
            return 0
        if options.meta not in (None, "-"):
            from supervisor.kernel.files import ResultFile

            self._meta = ResultFile(options.meta or "")
        if options.command == "check-config":
            return 0  # there is no configuration to be wrong
        if options.command == "print-cg-root":
            return _print_cgroup_root()
        self._refuse()
        owner = self._owner()
        self._box = Box(os.path.join(state_directory(), "isolate"), options.box_id, wait=options.wait, owner=owner[0])
        if options.command == "init":
            self._say("preparing the box")
            self._box.create(owner, options.cg)
            print_text(self._box.path)
        elif options.command == "cleanup":
            self._say("deleting the box" if self._box.initialized else "nothing to do, the box did not exist")
            self._box.check_mode(options.cg)
            self._box.remove()
        else:
            return self._run_program(self._box, owner)
        return 0

    def _refuse(self) -> None:
        """What cannot be done is refused by name."""
        options = self._options
        refused = {
            "--quota": (options.quota is not None, "disk quotas of a file system are not set here; --fsize caps each file"),
            "--syscalls": (options.syscalls is not None, "the filter of system calls is not made of isolate's flags"),
            "--tty-hack": (options.tty_hack, "no terminal is handed over; 'ringfence run --pty' gives a program one of its own"),
            "--as-uid": (options.as_uid is not None and os.geteuid() != 0, "acting for others needs root"),
        }
        for name, (given, reason) in refused.items():
            if given:
                raise UnsupportedError(name, reason)

    def _owner(self) -> tuple[int, int]:
        """Whose the box and what comes out of it is."""
        options = self._options
        if options.as_uid is not None and options.as_gid is not None:
            return options.as_uid, options.as_gid
        return os.getuid(), os.getgid()

    # ---- running a program ----

    def _run_program(self, box: Box, owner: tuple[int, int]) -> int:
        options = self._options
        if not box.initialized:
            raise ConfigError(f"the box was not found; make it with --init --box-id={options.box_id}")
        box.check_mode(options.cg)
        inherited = inherited_descriptors() if options.inherit_fds else ()
        is_root = os.geteuid() == 0
        who = (FIRST_UID + options.box_id, FIRST_UID + options.box_id) if is_root else None
        box.hand_over(who, options.special_files)
        ground = Ground()
        try:
            self._foreground = Foreground(
                ground, self._spec(box, ground, who, inherited), (SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2)
            )
            outcome = self._foreground.run(self._on_signal)
        finally:
            if self._foreground is not None:
                self._foreground.close()
            ground.close()
            box.hand_over(owner if is_root else None, options.special_files)
        return self._report(outcome)

    def _sandbox(self, box: Box, user: int, who: tuple[int, int] | None) -> Sandbox | None:
        """The sandbox of the run, or None for limits alone; makes the temporary directories that rules ask for."""
        options = self._options
        if os.environ.get(SANDBOX_VARIABLE) == "none":
            if options.own_dirs:
                raise UnsupportedError("--dir", f"directories are chosen by a sandbox, which {SANDBOX_VARIABLE}=none takes away")
            return None
        from supervisor.model.isolate_sandbox import isolate_sandbox

        for rule in options.dirs:
            if "tmp" in rule.options and not rule.default and rule.outside is not None:
                box.make_temporary(rule.outside.removeprefix("./tmp/"), who)
        return isolate_sandbox(options, box.path, user, os.path.isdir)

    def _spec(self, box: Box, ground: Ground, who: tuple[int, int] | None, inherited: tuple[int, ...]) -> JobSpec:
        options = self._options
        user = FIRST_UID + options.box_id
        sandbox = self._sandbox(box, user, who)
        program, folder = options.argv[0], options.chdir
        if sandbox is None:  # the paths of a box, on the host
            program = os.path.join(box.inside, _inside(program, "the program")) if program.startswith("/box/") else program
            folder = os.path.join(box.inside, _inside(folder or "/box", "--chdir"))
        else:
            folder = os.path.join("/box", folder or "")
        stdin, stdout, stderr = (self._open(box, name, who) for name in STREAMS)
        return JobSpec(
            argv=(program if "/" in program else f"./{program}", *options.argv[1:]),  # no PATH is searched
            env=apply_env_rules(options.env, options.full_env, os.environ),
            working_directory=folder,
            stdin=stdin,
            stdout=stdout,
            stderr=STDOUT if options.stderr_to_stdout else stderr,
            limits=_for_host(isolate_limits(options), ground),
            sandbox=sandbox,
            credentials=Credentials() if who is None else Credentials(uid=who[0], gid=who[1], groups=()),
            process_group=True,
            pass_fds=inherited,
        )

    def _open(self, box: Box, name: str, who: tuple[int, int] | None) -> int | None:
        path = getattr(self._options, name)
        if path is None:
            return None
        try:
            fd = box.open(_inside(path, f"--{name}"), STREAMS[name], who if name != "stdin" else None)
        except OSError as error:
            raise ConfigError(f"--{name}: {path}: {error.strerror}") from None
        self._opened.append(fd)
        return fd

    def _on_signal(self, number: int, sender: int) -> None:
        if number not in (SIGUSR1, SIGUSR2) and self._foreground is not None:
            self._interrupted = self._interrupted or number
            self._foreground.execution.stop(0)

    # ---- how it went ----

    def _report(self, outcome: Outcome) -> int:
        if outcome.error is not None and outcome.error.stage == "exec":
            complain(f"{self._options.argv[0]}: {os.strerror(outcome.error.errno)}", "isolate")
        if not self._options.silent:
            for warning in outcome.warnings:
                complain(f"warning: {warning}", "isolate")
        return self.tell(isolate_result(self._options, outcome, self._interrupted))

    def tell(self, result: IsolateResult) -> int:
        """Write the meta file and the line for people; returns the exit status."""
        status = result.status
        if self._options.meta == "-" and self._options.command == "run":
            print_text(result.meta.rstrip("\n"))
        elif self._meta is not None:
            try:
                self._meta.write(result.meta)
            except ConfigError as error:
                complain(str(error), "isolate")
                status = BROKEN
        if not self._options.silent or result.status == BROKEN:
            write_whole(2, f"{result.line}\n".encode("utf-8", "backslashreplace"))
        return status

    def _say(self, text: str) -> None:
        if self._options.verbose:
            complain(text, "isolate")

    def close(self) -> None:
        """Give everything back."""
        for fd in self._opened:
            os.close(fd)
        if self._meta is not None:
            self._meta.close()
        if self._box is not None:
            self._box.close()


def _inside(path: str, what: str) -> str:
    """The part of a path below the box: relative ones start there, ``/box`` is its name inside. Raises ConfigError."""
    below = path.removeprefix("/box").lstrip("/") if path == "/box" or path.startswith("/box/") else path
    parts = [part for part in below.split("/") if part not in ("", ".")]
    if below.startswith("/") or ".." in parts:
        raise ConfigError(f"{what}: {path[:60]!r} must lie in /box")
    return "/".join(parts)


def _for_host(limits: Limits, ground: Ground) -> Limits:
    """The same limits by what this host has.

    A stack without a limit is as much as we may have ourselves. Processes are counted by
    the pids controller, or, because each box has a user of its own when we are root, by RLIMIT_NPROC as isolate does.
    """
    import resource

    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    is_root = os.geteuid() == 0
    if limits.limit_stack == Rlimit(soft=INFINITY, hard=INFINITY) and hard != resource.RLIM_INFINITY:
        limits = replace(limits, limit_stack=Rlimit(soft=hard, hard=hard))
    counted = ground.host.cgroup is not None and "pids" in ground.host.cgroup.controllers
    if limits.tasks_max is not None and is_root and not counted:
        limits = replace(limits, tasks_max=None, limit_nproc=Rlimit(soft=limits.tasks_max, hard=limits.tasks_max))
    return limits


def _print_cgroup_root() -> int:
    ground = Ground()
    try:
        if ground.root is None:
            raise UnsupportedError("--print-cg-root", "there is no cgroup that jobs could be made in")
        print_text(ground.root.base)
    finally:
        ground.close()
    return 0
