# SPDX-License-Identifier: Apache-2.0
"""What a job may ask the kernel for: from the name of a preset and changes to it to a profile, and what a profile says.

``decide`` is the meaning of a profile; ``supervisor.model.bpf`` compiles the same meaning for the
kernel, and a test holds the two against each other.
"""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.syscall_groups import ABSENT, ALLOW, DENY, ENOSYS, EPERM, GROUPS, NO_FILTER, PRESETS, Condition, Rule
from supervisor.model.syscalls import MACHINES, syscall_numbers
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

#: Made by Ringfence itself between the filter and the program, so no filter can deny them.
NEEDED: Final = ("clock_gettime", "execve", "exit", "write")


@value
class SyscallProfile:
    """Rules in order: the first that names the call and whose conditions hold decides, else ``otherwise``.

    A call that the machine's table does not know is absent. ``kill``: the first denied call ends the job.
    """

    name: str
    rules: tuple[Rule, ...]
    otherwise: str
    kill: bool = False


def syscall_profile(
    preset: str = "default", allow: Iterable[str] = (), deny: Iterable[str] = (), *, kill: bool = False
) -> SyscallProfile | None:
    """The profile of a preset with names of calls, or ``@groups``, allowed and denied in it; a name in both is denied.

    None when nothing is denied: ``none`` without changes. Raises :class:`ConfigError` with every problem found.
    """
    problems: list[str] = []
    if preset != NO_FILTER and preset not in PRESETS:
        problems.append(f"syscalls: {preset!r} is not a preset{_nearest(preset, (NO_FILTER, *PRESETS))}")
    denied = _calls("syscalls_deny", deny, problems)
    allowed = _calls("syscalls_allow", allow, problems)
    problems += [f"syscalls_deny: {name!r} cannot be denied: the job itself is started by it" for name in NEEDED if name in denied]
    if preset == NO_FILTER and allowed and not denied:
        problems.append("syscalls_allow: there is nothing to allow, because syscalls = 'none' denies nothing")
    if problems:
        raise ConfigError(*problems)
    if preset == NO_FILTER and not denied:
        return None
    changes = (Rule(calls=denied, action=DENY), Rule(calls=allowed, action=ALLOW))
    base = PRESETS.get(preset)
    return SyscallProfile(
        name=preset,
        rules=(*[rule for rule in changes if rule.calls], *(base.rules if base is not None else ())),
        otherwise=base.otherwise if base is not None else ALLOW,
        kill=kill,
    )


def _calls(key: str, given: Iterable[str], problems: list[str]) -> tuple[str, ...]:
    """The calls behind names and groups, each once."""
    found: list[str] = []
    known: set[str] = set()
    for name in given:
        known = known or {name for machine in MACHINES for name in syscall_numbers(machine)}
        if name[:1] == "@" and name[1:] in GROUPS:
            found += GROUPS[name[1:]].calls
        elif name in known:
            found.append(name)
        else:
            kind = "group" if name[:1] == "@" else "system call"
            problems.append(
                f"{key}: {name!r} is not a {kind}{_nearest(name, [f'@{group}' for group in GROUPS] if name[:1] == '@' else sorted(known))}"
            )
    return tuple(dict.fromkeys(found))


def _nearest(given: str, names: Iterable[str]) -> str:
    from supervisor.model.spelling import nearest

    return nearest(given, names)


def decide(profile: SyscallProfile, machine: str, number: int, arguments: Sequence[int]) -> str:
    """``allow``, ``deny`` or ``absent``: what becomes of one call with its six arguments, each an unsigned 64-bit number."""
    name = next((name for name, known in syscall_numbers(machine).items() if known == number), None)
    if name is None:
        return ABSENT
    for rule in profile.rules:
        if name in rule.calls and all(_holds(condition, arguments) for condition in rule.when):
            return rule.action
    return profile.otherwise


def _holds(condition: Condition, arguments: Sequence[int]) -> bool:
    return (arguments[condition.argument] & condition.mask == condition.bits) is not condition.differs


def denial_errno(profile: SyscallProfile, name: str) -> int:
    """With which errno the call fails when it is denied: the one of the first rule that denies it."""
    return next((rule.error for rule in profile.rules if rule.action == DENY and name in rule.calls), EPERM)


def syscall_names(machine: str) -> dict[int, str]:
    """Name by number."""
    return {number: name for name, number in syscall_numbers(machine).items()}


assert ENOSYS == 38  # "absent" in the words of errno(3)
