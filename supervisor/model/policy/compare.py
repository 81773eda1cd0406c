# SPDX-License-Identifier: Apache-2.0
"""Compare: what a change from one policy to another tightens, loosens or merely changes."""

from __future__ import annotations

from supervisor.errors import ConfigError
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import Limits, tighten
from supervisor.model.policy.text import limit_text
from supervisor.model.sandbox import LEVELS, NETWORKS, NO_SANDBOX
from supervisor.model.units import INFINITY, format_bytes
from supervisor.model.value import field_names, replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final

    from supervisor.model.policy.adaptive import Bounds
    from supervisor.model.policy.policy import Policy
    from supervisor.model.sandbox import Sandbox

TIGHTENED: Final = "tightened"
LOOSENED: Final = "loosened"
CHANGED: Final = "changed"
#: Fields of a sandbox in which less is stricter, and True is stricter.
_LESS: Final = {"level": tuple(reversed(LEVELS)), "network": NETWORKS}
_SIZES: Final = ("tmp_size", "tmp_inodes", "shm_size")
_FENCES: Final = {"landlock": (True, None, False), "clear_env": (True, False), "private_tmp": (True, False), "syscalls_kill": (True, False)}
#: Exceptions from something mean nothing where that is missing: its own difference says it.
_MEANT_WITH: Final[dict[str, Callable[[Sandbox], bool]]] = {
    "keep_env": lambda sandbox: bool(sandbox.clear_env),
    "syscalls_allow": lambda sandbox: sandbox.syscalls != "none",
}


@value
class Difference:
    """One key that differs; ``before`` and ``after`` are as a person writes them, empty for what is not said."""

    key: str
    kind: str
    before: str = ""
    after: str = ""


def compare(before: Policy, after: Policy) -> tuple[Difference, ...]:
    """Every difference from ``before`` to ``after``. ``changed`` is what only the host or the job could judge."""
    return (
        *_limits(before.limits, after.limits),
        *_best_effort(before.best_effort, after.best_effort),
        *_sandboxes(before.sandbox or NO_SANDBOX, after.sandbox or NO_SANDBOX),
        *_adaptive(before, after),
    )


def judge_limit(name: str, before: Any, after: Any) -> str:
    """Whether a limit's new value is tighter, by the same rule by which two sources of limits combine."""
    try:
        both = getattr(tighten(replace(Limits(), **{name: before}), replace(Limits(), **{name: after})), name)
    except ConfigError:  # processor lists that have nothing in common
        return CHANGED
    return TIGHTENED if both == after else LOOSENED if both == before else CHANGED


def _limits(before: Limits, after: Limits) -> Iterator[Difference]:
    was, now = _effective(before), _effective(after)
    for name in LIMITS:
        old, new = was.get(name), now.get(name)
        if old == new:
            continue
        if new is None or old is None:
            kind = LOOSENED if new is None else TIGHTENED
        else:
            kind = judge_limit(name, old, new)
        yield Difference(key=name, kind=kind, before=_shown(name, old), after=_shown(name, new))


def _effective(limits: Limits) -> dict[str, Any]:
    """What limits: no swap where memory is capped and nothing is said of swap, and nothing where infinity is said."""
    given = limits.given()
    if given.get("memory_max", INFINITY) != INFINITY and "memory_swap_max" not in given:
        given["memory_swap_max"] = 0
    return {name: amount for name, amount in given.items() if amount != INFINITY}


def _shown(name: str, amount: Any) -> str:
    return "" if amount is None else limit_text(name, amount)


def _best_effort(before: frozenset[str], after: frozenset[str]) -> Iterator[Difference]:
    for name in LIMITS:
        if (name in before) != (name in after):
            kind = LOOSENED if name in after else TIGHTENED
            words = ("enforced or refused", "may lapse")
            yield Difference(key=f"best_effort.{name}", kind=kind, before=words[name in before], after=words[name in after])


def _sandboxes(before: Sandbox, after: Sandbox) -> Iterator[Difference]:
    for name in field_names(NO_SANDBOX):
        old, new = getattr(before, name), getattr(after, name)
        if old == new or (name in _MEANT_WITH and not all(_MEANT_WITH[name](sandbox) for sandbox in (before, after))):
            continue
        if name in ("bind", "overlay"):
            yield from _places(name, old, new)
        else:
            yield Difference(key=f"sandbox.{name}", kind=_judge_field(name, old, new), before=_word(name, old), after=_word(name, new))


def _judge_field(name: str, old: Any, new: Any) -> str:
    if name in _SIZES:
        return TIGHTENED if new < old else LOOSENED
    order: tuple[Any, ...] = _LESS.get(name) or _FENCES.get(name) or ()
    if order:
        return TIGHTENED if order.index(new) < order.index(old) else LOOSENED
    if name == "syscalls" and {old, new} & {"none", "default"}:  # how far each other preset goes is its own
        order = ("", "default", "none")
        return TIGHTENED if order.index(new if new in order else "") < order.index(old if old in order else "") else LOOSENED
    more, fewer = set(old) < set(new) if isinstance(old, tuple) else False, set(new) < set(old) if isinstance(old, tuple) else False
    if name == "syscalls_deny" and (more or fewer):
        return TIGHTENED if more else LOOSENED
    if name in ("syscalls_allow", "keep_env") and (more or fewer):
        return LOOSENED if more else TIGHTENED
    return CHANGED


def _places(name: str, old: Any, new: Any) -> Iterator[Difference]:
    """Every place of the host that came, went, or is seen otherwise."""
    was, now = ({place.target: place for place in places} for places in (old, new))
    for target in sorted({*was, *now}):
        before, after = was.get(target), now.get(target)
        if before == after:
            continue
        kind = LOOSENED if before is None else TIGHTENED if after is None else CHANGED
        if name == "bind" and before is not None and after is not None and replace(before, mode=after.mode) == after:
            kind = LOOSENED if after.mode == "rw" else TIGHTENED
        yield Difference(key=f"sandbox.{name}", kind=kind, before=show_place(before), after=show_place(after))


def show_place(place: Any) -> str:
    """A bind or an overlay on one line."""
    return "" if place is None else f"{place.source} at {place.target} ({getattr(place, 'mode', None) or place.changes})"


def _word(name: str, item: Any) -> str:
    if item is None:
        return "where there is one" if name == "landlock" else "as outside"
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, tuple):
        return ", ".join(map(str, item))
    return format_bytes(item) if name in ("tmp_size", "shm_size") else str(item)


def show_sandbox_field(name: str, item: Any) -> str:
    """A field of a sandbox as text for people."""
    return "; ".join(map(show_place, item)) if name in ("bind", "overlay") else _word(name, item)


def show_bounds(name: str, bounds: Bounds) -> str:
    """Adaptive bounds on one line."""
    return f"{limit_text(name, bounds.min)} to {limit_text(name, bounds.max)}"


def _adaptive(before: Policy, after: Policy) -> Iterator[Difference]:
    for name in LIMITS:
        old, new = before.adaptive.get(name), after.adaptive.get(name)
        if old == new:
            continue
        kind = CHANGED
        if old is not None and new is not None and old.max != new.max:
            kind = judge_limit(name, old.max, new.max)
        shown = ["" if bounds is None else show_bounds(name, bounds) for bounds in (old, new)]
        yield Difference(key=f"adaptive.{name}", kind=kind, before=shown[0], after=shown[1])
