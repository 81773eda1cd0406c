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
        RemoteError,
        ReplyError,
        ServiceFailed,
        SpawnError,
        SupervisorError,
        TaskTimeoutError,
        TimedOutError,
        UnsupportedError,
    )
    from supervisor.kernel.peer import Peer, connect
    from supervisor.kernel.policy_files import load_policy
    from supervisor.kernel.sealed import Sealed
    from supervisor.model.capture import Capture, Tee
    from supervisor.model.changes import FileChange
    from supervisor.model.check import ExecCheck, FdCheck, Health, HttpCheck, LogCheck, TcpCheck
    from supervisor.model.codec import MSGPACK, PICKLE
    from supervisor.model.events import Error, LimitHit, LimitsChanged, Output, Overflow, Paused, Resumed, Started, StateChanged, Terminated
    from supervisor.model.frames import Terms
    from supervisor.model.limits import Limits
    from supervisor.model.message import Message
    from supervisor.model.outcome import Change, Exit, Outcome, StartError, Usage, Verdict
    from supervisor.model.pair import PairOutcome
    from supervisor.model.policy.policy import Policy
    from supervisor.model.sandbox import Bind, Overlay, Sandbox
    from supervisor.model.service import Recovery, ServiceSpec
    from supervisor.model.service_state import ServiceResult, ServiceState
    from supervisor.model.session import Record
    from supervisor.model.spec import DEVNULL, PIPE, STDOUT, JobSpec
    from supervisor.model.state import JobState
    from supervisor.model.transfer import Collected, CollectedFile, TransferCaps
    from supervisor.runtime.channel import Channel
    from supervisor.runtime.exchange import Exchange
    from supervisor.runtime.job import Job
    from supervisor.runtime.json_log import JsonFormatter
    from supervisor.runtime.pair import run_pair
    from supervisor.runtime.policy_watch import PolicyWatch
    from supervisor.runtime.pool import Pool
    from supervisor.runtime.run import run
    from supervisor.runtime.service import Service
    from supervisor.runtime.service_group import ServiceGroup
    from supervisor.runtime.session import Session
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
    "Capture",
    "CgroupError",
    "Change",
    "Channel",
    "ClosedError",
    "Collected",
    "CollectedFile",
    "ConfigError",
    "CorruptError",
    "Error",
    "Exchange",
    "ExecCheck",
    "Exit",
    "FdCheck",
    "FileChange",
    "Health",
    "HttpCheck",
    "InternalError",
    "Job",
    "JobFailed",
    "JobSpec",
    "JobState",
    "JsonFormatter",
    "LimitHit",
    "Limits",
    "LimitsChanged",
    "LogCheck",
    "Message",
    "Outcome",
    "Output",
    "Overflow",
    "Overlay",
    "OverrunError",
    "PairOutcome",
    "Paused",
    "Peer",
    "Policy",
    "PolicyWatch",
    "Pool",
    "Record",
    "Recovery",
    "RemoteError",
    "ReplyError",
    "Resumed",
    "Sandbox",
    "Sealed",
    "Service",
    "ServiceFailed",
    "ServiceGroup",
    "ServiceResult",
    "ServiceSpec",
    "ServiceState",
    "Session",
    "SharedMemory",
    "SpawnError",
    "StartError",
    "Started",
    "StateChanged",
    "Supervisor",
    "SupervisorError",
    "TaskTimeoutError",
    "TcpCheck",
    "Tee",
    "Terminated",
    "Terms",
    "TimedOutError",
    "TransferCaps",
    "UnsupportedError",
    "Usage",
    "Verdict",
    "connect",
    "load_policy",
    "run",
    "run_pair",
    "start",
]

_HOMES = {
    "supervisor.errors": (
        "BrokenError BusyError CgroupError ClosedError ConfigError CorruptError InternalError JobFailed OverrunError "
        "RemoteError ReplyError ServiceFailed SpawnError SupervisorError TaskTimeoutError TimedOutError "
        "UnsupportedError"
    ),
    "supervisor.kernel.peer": "Peer connect",
    "supervisor.kernel.policy_files": "load_policy",
    "supervisor.kernel.sealed": "Sealed",
    "supervisor.model.capture": "Capture Tee",
    "supervisor.model.changes": "FileChange",
    "supervisor.model.check": "ExecCheck FdCheck Health HttpCheck LogCheck TcpCheck",
    "supervisor.model.codec": "MSGPACK PICKLE",
    "supervisor.model.events": "Error LimitHit LimitsChanged Output Overflow Paused Resumed Started StateChanged Terminated",
    "supervisor.model.frames": "Terms",
    "supervisor.model.limits": "Limits",
    "supervisor.model.message": "Message",
    "supervisor.model.outcome": "Change Exit Outcome StartError Usage Verdict",
    "supervisor.model.pair": "PairOutcome",
    "supervisor.model.policy.policy": "Policy",
    "supervisor.model.sandbox": "Bind Overlay Sandbox",
    "supervisor.model.service": "Recovery ServiceSpec",
    "supervisor.model.service_state": "ServiceResult ServiceState",
    "supervisor.model.session": "Record",
    "supervisor.model.spec": "DEVNULL PIPE STDOUT JobSpec",
    "supervisor.model.state": "JobState",
    "supervisor.model.transfer": "Collected CollectedFile TransferCaps",
    "supervisor.runtime.channel": "Channel",
    "supervisor.runtime.exchange": "Exchange",
    "supervisor.runtime.job": "Job",
    "supervisor.runtime.json_log": "JsonFormatter",
    "supervisor.runtime.pair": "run_pair",
    "supervisor.runtime.policy_watch": "PolicyWatch",
    "supervisor.runtime.pool": "Pool",
    "supervisor.runtime.run": "run",
    "supervisor.runtime.service": "Service",
    "supervisor.runtime.service_group": "ServiceGroup",
    "supervisor.runtime.session": "Session",
    "supervisor.runtime.shared_memory": "SharedMemory",
    "supervisor.runtime.start": "start",
    "supervisor.runtime.supervisor": "Supervisor",
}


def __getattr__(name: str) -> object:
    module = next((module for module, names in _HOMES.items() if name in names.split()), None)
    if module is None:
        raise AttributeError(f"module 'supervisor' has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(module), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
