# SPDX-License-Identifier: Apache-2.0
"""An interpreter of classic BPF as seccomp runs it, written from linux/filter.h and linux/bpf_common.h."""

from __future__ import annotations

import struct

ACCUMULATE, JUMP, EQUAL, NOT_LESS, AND, RETURN = 0x20, 0x05, 0x15, 0x35, 0x54, 0x06


def run(program: bytes, number: int, architecture: int, arguments: tuple[int, ...]) -> tuple[int, int]:
    """The value returned for one call, and how many instructions that took; AssertionError for a program the kernel refuses."""
    assert len(program) % 8 == 0 and 0 < len(program) // 8 <= 4096
    seccomp_data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments)
    accumulator = at = steps = 0
    while True:
        code, true, false, operand = struct.unpack_from("<HBBI", program, 8 * at)
        at += 1
        steps += 1
        if code == ACCUMULATE:
            assert operand % 4 == 0 and operand + 4 <= len(seccomp_data), "seccomp_check_filter refuses this load"
            (accumulator,) = struct.unpack_from("<I", seccomp_data, operand)
        elif code == AND:
            accumulator &= operand
        elif code == JUMP:
            at += operand
        elif code == EQUAL:
            at += true if accumulator == operand else false
        elif code == NOT_LESS:
            at += true if accumulator >= operand else false
        elif code == RETURN:
            return operand, steps
        else:
            raise AssertionError(f"instruction {code:#x} is none that the compiler should make")
        assert at < len(program) // 8, "a path leaves the program"
