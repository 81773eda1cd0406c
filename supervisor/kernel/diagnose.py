# SPDX-License-Identifier: Apache-2.0
"""Why a job did not start, in one line that says what to do about it."""

from __future__ import annotations

import errno
import os

from supervisor.model.limits import show_limit
from supervisor.model.outcome import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.model.plan import LaunchPlan


def start_error(stage: str, number: int, index: int, plan: LaunchPlan) -> StartError:
    """Describe the failed step ``stage`` (the ``index``-th of its list in the plan)."""
    if stage == "exec":
        return _exec_error(number, index, plan)
    reason = os.strerror(number)
    if stage.startswith("cgroup_"):
        step = plan.cgroup_steps[index] if index < len(plan.cgroup_steps) else None
        what = f"{step.path or 'the job'}" if step else "the job's cgroup"
        if stage == "cgroup_verify" and step is not None:
            reason = f"the kernel did not keep {step.expect!r}"
        return StartError(stage=stage, errno=number, message=f"step {stage} ({what}): {reason}")
    detail = ""
    shown = [hook for hook in plan.hooks if hook.stage == stage]
    if stage == "target" and index < len(plan.hooks):
        detail = f" ({plan.hooks[index].text})"
    elif shown:
        detail = f" ({shown[0].text})" if len(shown) == 1 or stage == "stdio" else f" ({_hook_text(plan, stage, index)})"
    return StartError(stage=stage, errno=number, message=f"step {stage}{detail}: {reason}{_hint(stage, number, plan)}")


def _hook_text(plan: LaunchPlan, stage: str, index: int) -> str:
    hook = plan.hooks[index] if index < len(plan.hooks) else None
    return hook.text if hook is not None and hook.stage == stage else stage


def _hint(stage: str, number: int, plan: LaunchPlan) -> str:
    if stage == "parent_death_signal" and number == errno.EOWNERDEAD:
        return ": the supervisor died meanwhile"
    if stage == "stdio" and number == errno.EBADF:
        if plan.limits.limit_nofile is not None and plan.limits.limit_nofile.soft < 3:
            return ": limit_nofile leaves no room for the standard streams, give at least 3"
        return ": a standard stream is a descriptor that is not open"
    if stage == "clone" and number == errno.EAGAIN:
        return ": the limit on processes of this user, cgroup or host is reached"
    if "sandbox" in plan.enforcement:
        from supervisor.kernel.sandbox_hints import sandbox_hint

        return sandbox_hint(stage, number)
    return ""


def _exec_error(number: int, index: int, plan: LaunchPlan) -> StartError:
    program = plan.argv[0].decode("utf-8", "backslashreplace")
    if number in (errno.ENOENT, errno.ENOTDIR):
        if plan.setup_count:
            from supervisor.kernel.sandbox_hints import not_inside

            return StartError(stage="exec", errno=errno.ENOENT, message=not_inside(program, plan))
        broken = _broken_interpreter(plan)
        if broken is not None:
            path, interpreter = broken
            message = f"{path}: its interpreter {interpreter} does not exist"
            return StartError(stage="exec", errno=errno.ENOEXEC, message=message)
        where = "" if "/" in program else " in PATH"
        return StartError(stage="exec", errno=errno.ENOENT, message=f"{program}: command not found{where}")
    path = plan.paths[index].decode("utf-8", "backslashreplace") if index < len(plan.paths) else program
    reasons = {
        errno.EACCES: "is a directory" if os.path.isdir(path) else "not executable (permission denied)",
        errno.ENOEXEC: "not a program the kernel can run (no '#!' line, or another architecture)",
        errno.E2BIG: "the arguments and the environment are too long for the kernel or for limit_stack",
        errno.ENOMEM: "not enough memory to start it; memory_max, limit_as or limit_data is too small",
        errno.EAGAIN: "limit_nproc is reached for this user",
        errno.ETXTBSY: "the file is open for writing (text file busy)",
    }
    return StartError(stage="exec", errno=number, message=f"{path}: {reasons.get(number, os.strerror(number))}")


def too_small_error(names: tuple[str, ...], plan: LaunchPlan) -> StartError:
    """The kernel killed the program inside exec: these limits leave no room for it."""
    program = plan.argv[0].decode("utf-8", "backslashreplace")
    which = " or ".join(f"{name} ({show_limit(name, getattr(plan.limits, name))})" for name in names)
    return StartError(stage="exec", errno=errno.ENOMEM, message=f"{program}: the kernel could not start it: {which} is too small")


def _broken_interpreter(plan: LaunchPlan) -> tuple[str, str] | None:
    """A script that exists while its ``#!`` interpreter does not: the kernel says ENOENT for both."""
    for path in plan.paths:
        try:
            with open(path, "rb") as file:
                first = file.readline(512)
        except OSError:
            continue
        if first.startswith(b"#!"):
            words = first[2:].split()
            if words:
                return path.decode("utf-8", "backslashreplace"), words[0].decode("utf-8", "backslashreplace")
        elif first.startswith(b"\x7fELF") and os.access(path, os.X_OK):
            return path.decode("utf-8", "backslashreplace"), "(the ELF loader it names)"
    return None
