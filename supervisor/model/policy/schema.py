# SPDX-License-Identifier: Apache-2.0
"""Schema: the JSON Schema of policy files, made from the table of limits.

For editors (completion, descriptions, the obvious mistakes) and for tools that write policies. It accepts
everything ``ringfence policy check`` accepts; what no schema can say (sizes that overflow, profiles that do not
exist) is for the check.
"""

from __future__ import annotations

from supervisor.model.limit_kinds import LIMITS
from supervisor.model.policy.adaptive import ADAPTABLE
from supervisor.model.policy.profile import NAME_MAX
from supervisor.model.relative import AUTO_WORDS
from supervisor.model.sandbox import CHANGES, LEVELS, MODES, NETWORKS
from supervisor.model.spelling import ALIASES
from supervisor.model.syscall_groups import PRESETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

    from supervisor.model.limit_kinds import LimitKind

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_BLANK: Final = "[ \\t\\n\\r]*"


def _text(pattern: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{_BLANK}(?:{pattern}){_BLANK}$", **more}


_SIZE_TEXT: Final = "infinity|max|[0-9+.][0-9+. \\t\\n\\rKMGTPEBi]*"
_SPAN_TEXT: Final = "infinity|max|[0-9+.][0-9+. \\t\\n\\ra-zA-Z\u00b5\u03bc]*"
_SHARE_TEXT: Final = "[0-9]+(?:\\.[0-9]+)?%"
_COUNT_TEXT: Final = "infinity|max|[0-9]+"
_AMOUNT: Final = {"type": "number", "minimum": 0}  # TOML's own inf is a number, and all that a quota takes of them
_SHAPES: Final[dict[str, dict[str, Any]]] = {
    "duration": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _text(_SPAN_TEXT)], "examples": ["10s", "1min 30s"]},
    "size": {"anyOf": [_AMOUNT, _text(_SIZE_TEXT)], "examples": ["64M", "1.5G"]},
    "memory": {"anyOf": [_AMOUNT, _text(f"{_SIZE_TEXT}|{_SHARE_TEXT}")], "examples": ["256M", "25%"]},
    "memory_or_auto": {"anyOf": [_AMOUNT, _text(f"{_SIZE_TEXT}|{_SHARE_TEXT}|auto")], "examples": ["256M", "25%", "auto"]},
    "count": {"anyOf": [_AMOUNT, _text(_COUNT_TEXT)], "examples": [64]},
    "tasks": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _text(f"{_COUNT_TEXT}|{_SHARE_TEXT}|auto")], "examples": [64, "auto"]},
    "quota": {"anyOf": [{"type": "number", "minimum": 1e308}, _text(f"{_SHARE_TEXT}|infinity|max|auto")], "examples": ["50%", "200%"]},
    "weight": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 10000}, _text("[0-9]+")], "examples": [100]},
    "processors": {
        "anyOf": [{"type": "integer", "minimum": 0}, _text("[0-9, \\t-]+"), {"type": "array", "items": {"type": ["integer", "string"]}}],
        "examples": ["0-3,8"],
    },
    "devices": {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
            {"type": "object", "minProperties": 1, "additionalProperties": {"type": ["integer", "string"]}},
        ],
        "examples": ["/dev/vda 10M"],
    },
    "rlimit": {
        "anyOf": [
            {"type": "number"},
            {"type": "string", "minLength": 1},
            {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": ["number", "string"]}},
        ],
        "examples": [1024, "1024:4096"],
    },
}
#: The shape of what each parser of the table reads.
_SHAPE_OF: Final = {
    "_duration": "duration",
    "_period": "duration",
    "_bytes": "memory",
    "_amount_of_memory": "memory_or_auto",
    "_size": "size",
    "_tasks": "tasks",
    "_quota": "quota",
    "_weight": "weight",
    "_cpus": "processors",
    "_bandwidth": "devices",
    "_iops": "devices",
    "rlimit": "rlimit",
}
_PATH: Final = {"type": "string", "pattern": "^/"}
_NAMES: Final = {"type": "array", "items": {"type": "string", "minLength": 1}}
_ID: Final = {"type": "integer", "minimum": 0, "maximum": (1 << 32) - 2}
_FINITE_SIZE: Final = {"anyOf": [{"type": "integer", "minimum": 4096}, _text(_SIZE_TEXT)]}


def _entries(extra: str, choices: Iterable[str], **more: Any) -> dict[str, Any]:
    entry = {
        "type": "object",
        "required": ["source"],
        "properties": {"source": _PATH, "target": {"type": "string"}, extra: {"enum": list(choices)}, **more},
        "additionalProperties": False,
    }
    return {"type": "array", "items": {"anyOf": [{"type": "string", "minLength": 1}, entry]}}


SANDBOX: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "level": ({"enum": list(LEVELS)}, "none takes nothing away, basic privileges and writing, strict builds a world of its own"),
    "network": ({"enum": list(NETWORKS)}, "what is reachable; none under strict, else the host's"),
    "bind": (_entries("mode", MODES), "files and directories of the host inside the sandbox: SOURCE[:TARGET][:ro|rw], or tables"),
    "overlay": (_entries("changes", CHANGES, upper=_PATH), "directories of the host whose changes do not reach it"),
    "tmp_size": (_FINITE_SIZE, "bytes of the private /tmp"),
    "tmp_inodes": ({"type": "integer", "minimum": 16, "maximum": 1 << 31}, "files in the private /tmp"),
    "shm_size": (_FINITE_SIZE, "bytes of /dev/shm"),
    "hostname": ({"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"}, "the name of the host inside"),
    "uid": (_ID, "the user number the job sees"),
    "gid": (_ID, "the group number the job sees"),
    "time_namespace": ({"type": "boolean"}, "clocks since boot begin at zero"),
    "syscalls": ({"enum": ["none", *PRESETS]}, "preset of the system call filter"),
    "syscalls_allow": (_NAMES, "system calls, or @groups, that are allowed although the preset denies them"),
    "syscalls_deny": (_NAMES, "system calls, or @groups, that are denied as well"),
    "syscalls_kill": ({"type": "boolean"}, "the first denied call ends the job"),
    "landlock": ({"type": "boolean"}, "true insists on the second fence, false leaves it out; left out: where the kernel has it"),
    "clear_env": ({"type": "boolean"}, "a small clean environment"),
    "keep_env": (_NAMES, "variables that are kept in it"),
    "private_tmp": ({"type": "boolean"}, "a /tmp of its own"),
}


def policy_schema() -> dict[str, Any]:
    """The schema as plain dicts and lists, ready for JSON."""
    return {
        "$schema": DRAFT,
        "$id": "urn:ringfence:policy:1",
        "title": "Ringfence policy file",
        "type": "object",
        "required": ["profile"],
        "additionalProperties": False,
        "properties": {
            "profile": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^[A-Za-z0-9_.-]{{1,{NAME_MAX}}}$"},
                "additionalProperties": {"$ref": "#/$defs/profile"},
            }
        },
        "$defs": {"profile": _profile(), "sandbox": _sandbox(), "adaptive": _adaptive(), **_SHAPES},
    }


def _profile() -> dict[str, Any]:
    limits = {name: _limit(kind) for name, kind in LIMITS.items()}
    systemd = {kind.directive: {**_limit(kind), "description": f"systemd's name for {kind.name}"} for kind in LIMITS.values()}
    snake = {alias: {**_limit(LIMITS[name]), "description": f"systemd's name for {name}"} for alias, name in ALIASES.items()}
    dashed = {name.replace("_", "-"): {**limits[name], "description": f"another spelling of {name}"} for name in limits if "_" in name}
    dashed |= {alias.replace("_", "-"): item for alias, item in snake.items()}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "description": {"type": "string", "description": "a text for people"},
            "extends": {"type": "string", "minLength": 1, "description": "another profile: NAME, FILE.toml or FILE.toml#NAME"},
            "best_effort": {
                "type": "array",
                "description": "limits that may be sampled, or lapse, where the host cannot enforce them",
                "items": {"enum": [*limits, *systemd, *snake, *dashed]},
            },
            "sandbox": {"$ref": "#/$defs/sandbox"},
            "adaptive": {"$ref": "#/$defs/adaptive"},
            **limits,
            **systemd,
            **snake,
            **dashed,
        },
    }


def _limit(kind: LimitKind) -> dict[str, Any]:
    words = f"{kind.help} (systemd: {kind.directive})"
    if kind.name in AUTO_WORDS:
        words += f"; auto is {AUTO_WORDS[kind.name]}"
    return {"$ref": f"#/$defs/{_SHAPE_OF[kind.parse.__name__]}", "description": words}


def _sandbox() -> dict[str, Any]:
    properties = {name: {**shape, "description": words} for name, (shape, words) in SANDBOX.items()}
    return {"type": "object", "description": "what the job may see and touch", "additionalProperties": False, "properties": properties}


def _adaptive() -> dict[str, Any]:
    names = set(ADAPTABLE)
    names |= {name.replace("_", "-") for name in names} | {LIMITS[name].directive for name in ADAPTABLE}
    bounds = {
        "type": "object",
        "required": ["min", "max"],
        "additionalProperties": False,
        "properties": {"min": {"type": ["number", "string"]}, "max": {"type": ["number", "string"]}},
    }
    return {
        "type": "object",
        "description": "bounds inside which a governor may move a limit",
        "additionalProperties": False,
        "properties": dict.fromkeys(sorted(names), bounds),
    }
