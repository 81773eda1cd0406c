# SPDX-License-Identifier: Apache-2.0
"""Ringfence: run commands, services and pools inside hard limits, with exact verdicts.

    import supervisor
    outcome = supervisor.run(["python3", "job.py"], limits=supervisor.Limits(memory_max="256M"))

Every public name is exported here, lazily: importing the package loads nothing but this file.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.errors import (
        BrokenError,
        BusyError,
        CgroupError,
        ClosedError,
        ConfigError,
        CorruptError,
        InternalError,
        JobFailed,
        OverrunError,
        ReplyError,
        SpawnError,
        SupervisorError,
        TimedOutError,
        UnsupportedError,
    )
    from supervisor.kernel.peer import Peer, connect
    from supervisor.kernel.sealed import Sealed
    from supervisor.model.codec import MSGPACK, PICKLE
    from supervisor.model.events import (
        Error,
        LimitHit,
        LimitsChanged,
        Output,
        Overflow,
        Paused,
        Resumed,
        Started,
        StateChanged,
        Terminated,
    )
    from supervisor.model.frames import Terms
    from supervisor.model.limits import Limits
    from supervisor.model.message import Message
    from supervisor.model.outcome import Exit, Outcome, StartError, Usage, Verdict
    from supervisor.model.sandbox import Bind, Overlay, Sandbox
    from supervisor.model.spec import DEVNULL, PIPE, STDOUT, JobSpec
    from supervisor.model.state import JobState
    from supervisor.runtime.channel import Channel
    from supervisor.runtime.exchange import Exchange
    from supervisor.runtime.job import Job
    from supervisor.runtime.run import run
    from supervisor.runtime.shared_memory import SharedMemory
    from supervisor.runtime.start import start
    from supervisor.runtime.supervisor import Supervisor

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "MSGPACK",
    "PICKLE",
    "PIPE",
    "STDOUT",
    "Bind",
    "BrokenError",
    "BusyError",
    "CgroupError",
    "Channel",
    "ClosedError",
    "ConfigError",
    "CorruptError",
    "Error",
    "Exchange",
    "Exit",
    "InternalError",
    "Job",
    "JobFailed",
    "JobSpec",
    "JobState",
    "LimitHit",
    "Limits",
    "LimitsChanged",
    "Message",
    "Outcome",
    "Output",
    "Overflow",
    "Overlay",
    "OverrunError",
    "Paused",
    "Peer",
    "ReplyError",
    "Resumed",
    "Sandbox",
    "Sealed",
    "SharedMemory",
    "SpawnError",
    "StartError",
    "Started",
    "StateChanged",
    "Supervisor",
    "SupervisorError",
    "Terminated",
    "Terms",
    "TimedOutError",
    "UnsupportedError",
    "Usage",
    "Verdict",
    "connect",
    "run",
    "start",
]

_HOMES = {
    "supervisor.errors": (
        "BrokenError BusyError CgroupError ClosedError ConfigError CorruptError InternalError JobFailed OverrunError ReplyError "
        "SpawnError SupervisorError TimedOutError UnsupportedError"
    ),
    "supervisor.model.events": "Error LimitHit LimitsChanged Output Overflow Paused Resumed Started StateChanged Terminated",
    "supervisor.kernel.peer": "Peer connect",
    "supervisor.kernel.sealed": "Sealed",
    "supervisor.model.codec": "MSGPACK PICKLE",
    "supervisor.model.frames": "Terms",
    "supervisor.model.message": "Message",
    "supervisor.model.limits": "Limits",
    "supervisor.model.outcome": "Exit Outcome StartError Usage Verdict",
    "supervisor.model.sandbox": "Bind Overlay Sandbox",
    "supervisor.model.spec": "DEVNULL PIPE STDOUT JobSpec",
    "supervisor.model.state": "JobState",
    "supervisor.runtime.channel": "Channel",
    "supervisor.runtime.exchange": "Exchange",
    "supervisor.runtime.job": "Job",
    "supervisor.runtime.run": "run",
    "supervisor.runtime.start": "start",
    "supervisor.runtime.shared_memory": "SharedMemory",
    "supervisor.runtime.supervisor": "Supervisor",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'supervisor' has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(module), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
