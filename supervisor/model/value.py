# SPDX-License-Identifier: Apache-2.0
"""Immutable values with keyword-only fields, at almost no import cost.

``dataclasses`` costs more to import (it pulls ``inspect``, 15 ms) than the whole of ``ringfence run``
may add to the interpreter's own start, so values are declared with :func:`value` instead. It takes
the same class bodies: annotated fields, defaults, methods; type checkers treat it as a frozen,
keyword-only dataclass. A method ``_check(self)`` runs after construction and may normalise fields
through :func:`set_field`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar, dataclass_transform

    _T = TypeVar("_T")
else:

    def dataclass_transform(**_: object) -> Any:  # stands in for typing's at run time
        return lambda function: function


class _Missing:
    def __repr__(self) -> str:
        return "<required>"


_MISSING = _Missing()
set_field = object.__setattr__


def _init(self: Any, *unnamed: Any, **given: Any) -> None:
    fields: dict[str, Any] = self._fields
    if unnamed:
        name, first = type(self).__name__, next(iter(fields), "...")
        raise TypeError(f"{name}() takes no positional arguments, {len(unnamed)} given: name them, as in {name}({first}=...)")
    items = {**fields, **given}
    if len(items) != len(fields):
        unknown = next(name for name in given if name not in fields)
        raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {unknown!r}")
    for name in self._required:
        if name not in given:
            raise TypeError(f"{type(self).__name__}() missing required keyword argument {name!r}")
    set_field(self, "__dict__", items)
    if self._checked:
        self._check()


def _refuse(self: Any, name: str, *_: Any) -> None:
    raise AttributeError(f"{type(self).__name__} is immutable: use replace() to change {name!r}")


def _astuple(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self._fields])


def _eq(self: Any, other: object) -> Any:
    return _astuple(self) == _astuple(other) if type(self) is type(other) else NotImplemented


def _hash(self: Any) -> int:
    try:
        return self._hashed  # type: ignore[no-any-return]
    except AttributeError:
        hashed = hash((type(self), _astuple(self)))
        set_field(self, "_hashed", hashed)
        return hashed


def _repr(self: Any) -> str:
    shown = [f"{name}={getattr(self, name)!r}" for name, default in self._fields.items() if getattr(self, name) != default]
    return f"{type(self).__name__}({', '.join(shown)})"


def _reduce(self: Any) -> tuple[Any, ...]:
    return (_rebuild, (type(self), as_dict(self)))


def _rebuild(cls: Any, given: dict[str, Any]) -> Any:
    if len(given) != len(cls._fields):
        raise AttributeError(f"{cls.__name__} has no field {next(name for name in given if name not in cls._fields)!r}")
    made = object.__new__(cls)
    set_field(made, "__dict__", given)
    return made


_SHARED = {
    "__match_args__": (),
    "__init__": _init,
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__reduce__": _reduce,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
}


@dataclass_transform(eq_default=True, kw_only_default=True, frozen_default=True)
def value(cls: type[_T]) -> type[_T]:
    """Make ``cls`` an immutable value: keyword-only construction, equality, hash, pickling.

    The class stays the one that its body made, with a dict for the fields: a second one with slots would cost
    the one-shot path a millisecond in all.
    """
    made: Any = cls
    own = cls.__dict__
    names = tuple(own.get("__annotations__", ()))
    made._fields = {name: own.get(name, _MISSING) for name in names}
    made._required = tuple([name for name in names if name not in own])
    made._checked = "_check" in own
    for key, shared in _SHARED.items():
        if key not in own:
            setattr(made, key, shared)
    return cls


def field_names(of: Any) -> tuple[str, ...]:
    """Names of the fields of a value or of a value class, in order of declaration."""
    return tuple(of._fields)


def as_dict(of: Any) -> dict[str, Any]:
    """The fields of a value by name; nested values stay values."""
    return {name: getattr(of, name) for name in of._fields}


def filled(cls: type[_T], given: dict[str, Any]) -> _T:
    """A value of a class whose fields all have defaults, with some fields given, normalised already: no checks."""
    made: _T = _rebuild(cls, {**cls._fields, **given})  # type: ignore[attr-defined]
    return made


def replace(of: _T, **changes: Any) -> _T:
    """A copy of the value with some fields changed to values that are normalised already: no checks."""
    made: _T = _rebuild(type(of), {**as_dict(of), **changes})
    return made


def plain(of: Any) -> Any:
    """The value as dicts, lists, strings and numbers, ready for JSON."""
    if hasattr(of, "_fields"):
        return {name: plain(getattr(of, name)) for name in of._fields}
    if isinstance(of, dict):
        return {str(key): plain(item) for key, item in of.items()}
    if isinstance(of, (tuple, list, frozenset)):
        return [plain(item) for item in of]
    return of
