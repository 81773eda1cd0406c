# SPDX-License-Identifier: Apache-2.0
"""The system calls that a job's filter denied, by name."""

from __future__ import annotations

import os

from supervisor.kernel.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.kernel.native import Engine
    from supervisor.model.bpf import SyscallFilter

#: Denied calls that are answered and counted, for each job. A job that floods us is then left to the kernel.
ANSWERS_MAX: Final = 1000
#: linux/audit.h; x32 has x86_64's architecture and a bit of its own in the number.
FOREIGN: Final = {0x40000003: "i386", 0x40000028: "arm", 0xC000003E: "x32"}
X32_BIT: Final = 0x40000000


class Denials:
    """Owns the listener of one job's filter, which native code answers on the engine.

    ``kill`` of the filter, and a call of a foreign architecture, are a DENIED event; the call is not answered.
    """

    __slots__ = ("_machine", "_native")

    def __init__(self, engine: Engine, token: int, listener_fd: int, filtered: SyscallFilter) -> None:
        """Takes ``listener_fd``, also when it raises OSError: then denied calls fail with ENOSYS."""
        errnos = filtered.errnos
        self._machine = filtered.machine
        self._native = lib.sup_denials_new(engine.pointer, token, listener_fd, errnos, len(errnos), ANSWERS_MAX, filtered.kill)
        if self._native == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))

    def by_name(self) -> dict[str, int]:
        """How often each call was denied, the most frequent first."""
        if self._native is None or not lib.sup_denials_total(self._native):
            return {}
        from supervisor.model.syscalls import syscall_numbers

        found = {}
        for name, number in syscall_numbers(self._machine).items():
            if count := lib.sup_denials_count(self._native, number):
                found[name] = int(count)
        architecture, number = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        if lib.sup_denials_foreign(self._native, architecture, number):
            kind = FOREIGN.get(architecture[0], f"architecture {architecture[0]:#x}")
            found[f"{kind} call {number[0] & ~X32_BIT}"] = 1
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def overflow(self) -> str:
        """A sentence when there were more than could be counted, else nothing."""
        if self._native is None or not lib.sup_denials_overflowed(self._native):
            return ""
        return f"the job's first {ANSWERS_MAX} denied system calls are counted; later ones failed with ENOSYS, uncounted"

    def close(self) -> None:
        """Close the listener; safe to call twice."""
        if self._native is not None:
            lib.sup_denials_free(self._native)
            self._native = None
