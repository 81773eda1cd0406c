# SPDX-License-Identifier: Apache-2.0
"""``ringfence run``: one command under limits, in the foreground."""

from __future__ import annotations

import os

from supervisor.cli.foreground import Foreground, complain, fill_closed_streams, pass_on, print_text
from supervisor.cli.options import Parsed, help_text, parse
from supervisor.errors import ConfigError, SupervisorError
from supervisor.kernel.native import READY
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import Limits
from supervisor.model.spec import COLLECT, JobSpec
from supervisor.model.value import replace
from supervisor.runtime.oneshot import Ground
from supervisor.runtime.request import make_spec, on_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.cli.terminal import Terminal
    from supervisor.cli.work import Work
    from supervisor.kernel.files import ResultFile
    from supervisor.model.outcome import Outcome
    from supervisor.model.policy.policy import Policy
    from supervisor.model.sandbox import Sandbox
    from supervisor.runtime.execution import Execution

REFUSED: Final = 125
SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGSTOP, SIGTSTP, SIGWINCH = 1, 2, 3, 10, 12, 15, 18, 19, 20, 28
ENDING: Final = (SIGHUP, SIGINT, SIGQUIT, SIGTERM)
FORWARDED: Final = (SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP)


def run(argv: list[str]) -> int:
    """Run the command line and return the exit status of the contract."""
    closed = fill_closed_streams()
    try:
        parsed = parse(argv)
        if parsed.flag("help"):
            print_text(help_text())
            return 0
        return _Run(parsed, closed).run()
    except SupervisorError as error:
        for line in str(error).splitlines():
            complain(line)
        return REFUSED
    except OSError as error:
        complain(f"{error.filename + ': ' if error.filename else ''}{error.strerror}")
        return REFUSED
    except MemoryError:
        complain("not enough memory to keep the command's output; give --output-max, or --stdout FILE")
        return REFUSED


class _Run:
    """One invocation: its options, and while the job lives, its execution and terminal."""

    def __init__(self, parsed: Parsed, closed: set[int]) -> None:
        self.parsed = parsed
        self._opened: list[int] = []
        self._terminal: Terminal | None = None
        self._result: ResultFile | None = None
        self._execution: Execution | None = None
        self._shared_group = True
        self._work: Work | None = None
        if {"file", "collect"} & parsed.lists.keys():
            from supervisor.cli.work import Work

            self._work = Work(parsed.lists.get("file", []), parsed.lists.get("collect", []))
        if not parsed.command:
            raise ConfigError("the command is missing; see 'ringfence run --help'")
        to_stdout = parsed.flag("json") or parsed.values.get("result") == "-"
        if to_stdout and 1 in closed:
            raise ConfigError("standard output is closed, so the outcome cannot be printed")
        if parsed.flag("pty") and (parsed.flag("json") or {"stdin", "stdout", "stderr"} & parsed.values.keys()):
            raise ConfigError("--pty: cannot be combined with --json, --stdin, --stdout or --stderr")

    def run(self) -> int:
        ground = None
        try:
            limits, best_effort = self._limits()
            if self.parsed.values.get("result", "-") != "-" and not self.parsed.flag("explain"):
                from supervisor.kernel.files import ResultFile

                self._result = ResultFile(self.parsed.values["result"])
            spec = self._spec(limits, best_effort)
            if self._work is not None:
                spec = self._work.prepare(spec)
            ground = Ground(self.parsed.values.get("cgroup", ""))
            if self.parsed.flag("explain"):
                from supervisor.model.plan import explain

                print_text(explain(ground.plan(spec)[0]))
                return 0
            outcome = self._drive(spec, ground)
            for line in [] if self._work is None else self._work.collect():
                complain(line)
            return self._report(outcome)
        finally:
            if ground is not None:
                ground.close()
            if self._work is not None and (left := self._work.close()):
                complain(left)
            if self._result is not None:
                self._result.close()
            for fd in self._opened:
                os.close(fd)

    # ---- what was asked ----

    def _limits(self) -> tuple[Limits, frozenset[str]]:
        given = {name: texts if name.startswith("io_") and name != "io_weight" else texts[-1] for name, texts in self.parsed.limits.items()}
        limits = Limits(**given)
        names = {name for text in self.parsed.lists.get("best-effort", []) for name in text.split(",") if name}
        if names:
            from supervisor.model.spelling import limit_name, nearest
        unknown = sorted(name for name in names if limit_name(name) is None)
        if unknown:
            raise ConfigError(f"--best-effort: {unknown[0]!r} is not a limit{nearest(unknown[0], LIMITS)}")
        best_effort = frozenset(limit_name(name) or name for name in names)
        return limits, best_effort

    def _spec(self, limits: Limits, best_effort: frozenset[str]) -> JobSpec:
        values = self.parsed.values
        collect = COLLECT if self.parsed.flag("json") else None
        stdout = self._open("stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if "stdout" in values else collect
        same = "stderr" in values and values["stderr"] == values.get("stdout")
        stderr = stdout if same else self._open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if "stderr" in values else collect
        policy = self._policy()
        sandbox = self._sandbox(policy)
        if sandbox is not None and sandbox.level != "none":
            self._shared_group = False  # a session of its own: what the terminal sends comes to us alone
        spec = make_spec(
            self.parsed.command,
            limits=limits,
            best_effort=best_effort,
            policy=None if policy is None else replace(policy, sandbox=None),  # it is in the sandbox already
            sandbox=sandbox,
            stdin=self._open("stdin", os.O_RDONLY) if "stdin" in values else None,
            stdout=stdout,
            stderr=stderr,
            env=self._environment(sandbox),
            cwd=values.get("working-directory"),
            user=values.get("user"),
            group=values.get("group"),
            umask=self._number("umask", 8),
            nice=self._number("nice"),
            oom_score_adjust=self._number("oom-score-adjust"),
            cpu_affinity=self._processors(),
            no_new_privileges=self.parsed.flag("no-new-privileges"),
            kill_grace=values.get("kill-grace"),
        )
        if self.parsed.flag("pty"):
            from supervisor.cli.terminal import Terminal

            self._terminal = Terminal()
            self._shared_group = False
            spec = on_terminal(spec, self._terminal.pty)
        return spec

    def _open(self, name: str, flags: int) -> int:
        path = self.parsed.values[name]
        try:
            fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
        except OSError as error:
            raise ConfigError(f"--{name}: {path}: {error.strerror}") from None
        self._opened.append(fd)
        return fd

    def _policy(self) -> Policy | None:
        if "policy" not in self.parsed.values:
            return None
        from supervisor.kernel.policy_files import load_policy

        return load_policy(self.parsed.values["policy"])

    def _sandbox(self, policy: Policy | None) -> Sandbox | None:
        """What the options and the policy ask for together; None for no sandbox at all."""
        values, binds = self.parsed.values, self.parsed.lists.get("bind", [])
        given: dict[str, Any] = {}
        if "sandbox" in values:
            given["level"] = values["sandbox"]
        if "network" in values:
            given["network"] = values["network"]
        if "syscalls" in values:
            given["syscalls"] = values["syscalls"]
        for option, field in (("syscalls-allow", "syscalls_allow"), ("syscalls-deny", "syscalls_deny")):
            if option in self.parsed.lists:
                given[field] = tuple([name for text in self.parsed.lists[option] for name in text.split(",") if name])
        under = None if policy is None else policy.sandbox
        if under is None and not binds and given in ({}, {"level": "none"}):
            return None
        from supervisor.model.policy.stricter import sandbox_for
        from supervisor.model.sandbox import parse_bind

        if binds:
            given["bind"] = [parse_bind(text, os.getcwd()) for text in binds]
        made = sandbox_for(under, given or None)
        lost = [name for name in given.get("syscalls_allow", ()) if name not in made.syscalls_allow]
        if lost:
            raise ConfigError(f"--syscalls-allow: {lost[0]!r} would loosen the policy, which options only tighten; allow it in the profile")
        return None if made.level == "none" and made.syscalls == "none" and not made.syscalls_deny else made

    def _environment(self, sandbox: Sandbox | None) -> dict[str, str] | None:
        pairs = self.parsed.lists.get("setenv", [])
        if not pairs and not self.parsed.flag("clear-env"):
            return None
        if sandbox is not None and sandbox.clear_env:
            from supervisor.model.confine import CLEAN_ENV

            env = {name.decode(): text.decode() for name, text in CLEAN_ENV.items()}
            env |= {name: os.environ[name] for name in sandbox.keep_env if name in os.environ}
        else:
            env = {"PATH": os.environ.get("PATH", os.defpath)} if self.parsed.flag("clear-env") else dict(os.environ)
            if "user" in self.parsed.values:
                from supervisor.kernel.accounts import home_environment

                env |= home_environment(self.parsed.values["user"])
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals or not name:
                raise ConfigError(f"--setenv: {pair[:60]!r} must be NAME=VALUE")
            env[name] = text
        return env

    def _number(self, name: str, base: int = 10) -> int | None:
        text = self.parsed.values.get(name)
        if text is None:
            return None
        try:
            return int(text, base)
        except ValueError:
            kind = "an octal number such as 022" if base == 8 else "a whole number"
            raise ConfigError(f"--{name}: {text[:60]!r} is not {kind}") from None

    def _processors(self) -> tuple[int, ...] | None:
        text = self.parsed.values.get("cpu-affinity")
        if text is None:
            return None
        from supervisor.model.cpulist import parse_cpu_list

        try:
            return parse_cpu_list(text)
        except ValueError as error:
            raise ConfigError(f"--cpu-affinity: {error}") from None

    # ---- doing it ----

    def _drive(self, spec: JobSpec, ground: Ground) -> Outcome:
        foreground = None
        terminal = self._terminal
        try:
            foreground = Foreground(ground, spec, (*ENDING, *FORWARDED))
            self._execution = foreground.execution
            if terminal is not None:
                terminal.connect(foreground.engine, foreground.execution)
            return foreground.run(
                lambda number, sender: self._on_signal(number, sender == 0 and self._shared_group),
                self._on_ready,
                terminal.release if terminal is not None else None,
            )
        finally:
            if terminal is not None:
                terminal.close()
            if foreground is not None:
                foreground.close()

    def _on_ready(self, event: Any) -> None:
        if event.kind == READY and self._terminal is not None and event.token == self._terminal.token:
            self._terminal.on_keys()

    def _on_signal(self, number: int, had_it: bool) -> None:
        """``had_it``: the terminal sent it to the job as well, which shares our process group."""
        execution = self._execution
        assert execution is not None
        if number in ENDING:
            again = "cancelled" in execution.causes
            execution.stop(0 if again else execution.spec.kill_grace_ns, signal=0 if had_it else number)
        elif number == SIGTSTP:
            self._suspend(execution)
        elif number == SIGWINCH and self._terminal is not None:
            self._terminal.copy_size()
        elif not had_it:
            pass_on(execution, number)

    def _suspend(self, execution: Execution) -> None:
        """Ctrl-Z: the whole tree stops, then we do; ``fg`` or ``bg`` lets both run on."""
        still_stopping = execution.pause()
        if still_stopping is not None:
            still_stopping()
            execution.paused()
        os.kill(os.getpid(), SIGSTOP)
        execution.resume()
        pass_on(execution, SIGCONT)

    # ---- saying how it went ----

    def _report(self, outcome: Outcome) -> int:
        from supervisor.model.outcome import Verdict

        status = outcome.exit_status()
        if self._execution is not None and self._execution.relay_errno:
            complain(f"the command's output could not be written: {os.strerror(self._execution.relay_errno)}")
            status = status or REFUSED
        quiet = self.parsed.flag("quiet")
        if outcome.error is not None:
            complain(outcome.error.message if outcome.verdict == Verdict.START_FAILED else outcome.summary())
        elif not quiet and (outcome.limits_hit or outcome.verdict in Verdict.LIMITS or outcome.verdict in ("host_oom", "cancelled")):
            complain(outcome.summary())
        if not quiet:
            for warning in outcome.warnings:
                complain(f"warning: {warning}")
        as_json = self.parsed.flag("json")
        if as_json or "result" in self.parsed.values:
            import json

            if as_json:
                print_text(json.dumps(outcome.to_dict(streams=True)))
            if self._result is not None:
                self._result.write(json.dumps(outcome.to_dict()) + "\n")
            elif self.parsed.values.get("result") == "-" and not as_json:
                print_text(json.dumps(outcome.to_dict()))
        return status
