# SPDX-License-Identifier: Apache-2.0
"""Compile a profile of system calls into programs of classic BPF, as bytes of ``struct sock_filter``.

seccomp(2), linux/seccomp.h, linux/filter.h. A program first looks at the architecture, then finds the
range of call numbers by halving, then looks at arguments where a rule asks for it; every path ends in
a return. It loads nothing but number and architecture for calls without conditions, so that Linux
5.11 and newer find them always allowed and do not run it at all for them (seccomp_cache_prepare).
"""

from __future__ import annotations

from supervisor.model.syscall_groups import ALLOW, DENY, ENOSYS, EPERM, Condition
from supervisor.model.syscalls import syscall_numbers
from supervisor.model.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

    from supervisor.model.seccomp import SyscallProfile

    #: code, jump if true, jump if false, operand
    Instruction = tuple[int, int, int, int]
    #: Conditions and the action when they hold, in order; the last has no conditions.
    Chain = tuple[tuple[tuple[Condition, ...], str], ...]
    #: The same with the return values of a filter.
    Program = tuple[tuple[tuple[Condition, ...], int], ...]

LOAD, JUMP, JUMP_EQUAL, JUMP_NOT_LESS, AND, RETURN = 0x20, 0x05, 0x15, 0x35, 0x54, 0x06
#: struct seccomp_data: number, architecture, instruction pointer, six arguments of 8 bytes, little-endian on both machines.
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
RET_KILL_PROCESS: Final = 0x80000000  # Linux 4.14
RET_ERRNO: Final = 0x00050000
RET_USER_NOTIF: Final = 0x7FC00000  # Linux 5.0
RET_ALLOW: Final = 0x7FFF0000
ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
X32_BIT: Final = 0x40000000
NO_CALL: Final = 0xFFFFFFFF  # syscall(-1), which programs use to ask for ENOSYS
PROGRAM_MAX: Final = 4096  # BPF_MAXINSNS
FARTHEST: Final = 255
FAIL: Final = -1

#: The one sendmsg, the one prlimit64 and the one seccomp with which native/seccomp.c hands the listener out, sets the limit of
#: descriptors and shuts the door behind it: MSG_DONTWAIT | MSG_EOR | MSG_NOSIGNAL; RLIMIT_NOFILE of process 0, with something in the
#: half of the argument that the kernel does not read; and SECCOMP_FILTER_FLAG_SPEC_ALLOW.
HANDOVER_FLAGS: Final = 0x40C0
ODD_SELF: Final = 0x52494E47 << 32
LIMIT_NOFILE: Final = 7
CLOSING_FLAGS: Final = 4
_WORD: Final = (1 << 32) - 1
HANDOVER: Final = {
    "sendmsg": (Condition(argument=2, mask=_WORD, bits=HANDOVER_FLAGS),),
    "prlimit64": (Condition(argument=0, mask=(1 << 64) - 1, bits=ODD_SELF), Condition(argument=1, mask=_WORD, bits=LIMIT_NOFILE)),
    "seccomp": (Condition(argument=0, mask=_WORD, bits=1), Condition(argument=1, mask=_WORD, bits=CLOSING_FLAGS)),
}


@value
class SyscallFilter:
    """The programs of one profile for one machine.

    ``named`` asks a listener about denied calls, and about those of a foreign architecture; ``closing``, installed
    after it, denies what only handing the listener out needed (empty when the profile allows that anyway);
    ``unnamed`` does without a listener, and kills a process for a foreign call.
    ``errnos``: by number, with what a denied call fails.
    """

    name: str
    machine: str
    named: bytes
    closing: bytes
    unnamed: bytes
    errnos: bytes
    kill: bool


def compile_filter(profile: SyscallProfile, machine: str) -> SyscallFilter:
    """The filter of a profile. Raises KeyError for a machine without a table, ValueError for a program the kernel would not take."""
    numbers = syscall_numbers(machine)
    chains = _chains(profile, numbers)
    usual: Chain = (((), profile.otherwise),)
    needing = {name: when for name, when in HANDOVER.items() if not _allows(chains.get(name, usual), when)}
    if needing.keys() <= {"seccomp"}:  # nothing to shut the door behind
        needing = {}
    errnos = _errnos(profile, numbers)
    closing = _closing(needing, numbers) if needing else b""
    named = {numbers[name]: _answers(chain, RET_USER_NOTIF) for name, chain in chains.items()}
    otherwise = _answers(usual, RET_USER_NOTIF)
    for name, when in needing.items():
        named[numbers[name]] = ((when, RET_ALLOW), *named.get(numbers[name], otherwise))
    unnamed = {}
    for name, chain in chains.items():
        denied = RET_KILL_PROCESS if profile.kill else RET_ERRNO | errnos[numbers[name]]
        unnamed[numbers[name]] = _answers(chain, denied)
    return SyscallFilter(
        name=profile.name,
        machine=machine,
        named=_program(machine, named, otherwise, RET_USER_NOTIF),
        closing=closing,
        unnamed=_program(machine, unnamed, _answers(usual, RET_KILL_PROCESS if profile.kill else RET_ERRNO | EPERM), RET_KILL_PROCESS),
        errnos=errnos,
        kill=profile.kill,
    )


def _chains(profile: SyscallProfile, numbers: Mapping[str, int]) -> dict[str, Chain]:
    """For the calls that rules name: conditions and action, up to the first without conditions; none that changes nothing."""
    found: dict[str, list[tuple[tuple[Condition, ...], str]]] = {}
    for rule in profile.rules:
        row = (rule.when, rule.action)
        for name in rule.calls:
            rows = found.get(name)
            if rows is None:
                if name in numbers:
                    found[name] = [row]
            elif rows[-1][0]:
                rows.append(row)
    for rows in found.values():
        if rows[-1][0]:
            rows.append(((), profile.otherwise))
        while len(rows) > 1 and rows[-2][1] == rows[-1][1]:
            del rows[-2]
    return {name: tuple(rows) for name, rows in found.items()}


def _allows(chain: Chain, when: tuple[Condition, ...]) -> bool:
    """Whether it certainly lets every call through for which these conditions hold."""
    fixed = {condition.argument: condition for condition in when}
    for conditions, action in chain:
        holds = True
        for condition in conditions:
            have = fixed.get(condition.argument)
            if have is None or condition.mask & ~have.mask:
                return False  # what it looks at is not fixed
            holds = holds and (have.bits & condition.mask == condition.bits) is not condition.differs
        if holds:
            return action == ALLOW
    return False


def _answers(chain: Chain, denied: int) -> Program:
    """The chain with the filter's return values for its actions."""
    if len(chain) == 1:
        return (((), _answer(chain[0][1], denied)),)
    return tuple([(when, _answer(action, denied)) for when, action in chain])


def _answer(action: str, denied: int) -> int:
    return denied if action == DENY else RET_ALLOW if action == ALLOW else RET_ERRNO | ENOSYS


def _errnos(profile: SyscallProfile, numbers: Mapping[str, int]) -> bytes:
    """By number; the first rule that denies a call names its errno, as denial_errno says."""
    table = bytearray([EPERM]) * (max(numbers.values()) + 1)
    for rule in reversed(profile.rules):
        if rule.action == DENY:
            for name in rule.calls:
                if name in numbers:
                    table[numbers[name]] = rule.error
    return bytes(table)


# ---- programs ----


def _program(machine: str, chains: dict[int, Program], otherwise: Program, foreign: int) -> bytes:
    head: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, foreign),
        (LOAD, 0, 0, NUMBER_AT),
    ]
    if machine == "x86_64":
        head += [
            (JUMP_NOT_LESS, 0, 3, X32_BIT),
            (JUMP_EQUAL, 0, 1, NO_CALL),
            (RETURN, 0, 0, RET_ERRNO | ENOSYS),
            (RETURN, 0, 0, foreign),
        ]
    return _encode([*head, *_Tree().program(_segments(chains, otherwise, syscall_numbers(machine)))])


def _segments(chains: dict[int, Program], otherwise: Program, numbers: Mapping[str, int]) -> list[tuple[int, Program]]:
    """Ranges of numbers with one answer, each by its first number; what lies between known calls is absent."""
    absent: Program = (((), RET_ERRNO | ENOSYS),)
    segments: list[tuple[int, Program]] = []
    last: Program = ()
    after = -1
    for number in sorted(numbers.values()):
        if number > after + 1 and last != absent:
            segments.append((after + 1, absent))
            last = absent
        after = number
        program = chains.get(number, otherwise)
        if program is not last and program != last:
            segments.append((number, program))
            last = program
    return segments if last == absent else [*segments, (after + 1, absent)]


class _Tree:
    """The program from its end to its beginning, so that where a jump leads stands already; answers are shared within reach."""

    def __init__(self) -> None:
        self._code: list[Instruction] = []  # the last instruction first
        self._answers: dict[int, int] = {}  # where the nearest return of an answer is

    def program(self, segments: list[tuple[int, Program]]) -> list[Instruction]:
        """Find the segment of the number that was loaded, by halving, and answer as it says."""
        entry = self._halve(segments)
        if self._place(entry) != len(self._code) - 1:
            self._append(JUMP, 0, 0, len(self._code) - self._place(entry) - 1)
        return self._code[::-1]

    def _halve(self, segments: list[tuple[int, Program]]) -> int | tuple[int]:
        """Where it begins, or the answer that it is, in a tuple."""
        if len(segments) == 1:
            program = segments[0][1]
            if not program[0][0]:
                return (program[0][1],)
            for instruction in reversed(_block(program)):
                self._append(*instruction)
            return len(self._code) - 1
        middle = len(segments) // 2
        above, below = self._halve(segments[middle:]), self._halve(segments[:middle])
        places = self._place(above), self._place(below)
        at = len(self._code)
        return self._append(JUMP_NOT_LESS, at - places[0] - 1, at - places[1] - 1, segments[middle][0])

    def _place(self, entry: int | tuple[int]) -> int:
        """An instruction that leads there and is in reach of a jump from the next but one."""
        if isinstance(entry, tuple):
            near = self._answers.get(entry[0], -FARTHEST)
            return near if self._reaches(near) else self._append(RETURN, 0, 0, entry[0])
        return entry if self._reaches(entry) else self._append(JUMP, 0, 0, len(self._code) - entry - 1)

    def _reaches(self, place: int) -> bool:
        return len(self._code) - place <= FARTHEST - 1

    def _append(self, code: int, true: int, false: int, operand: int) -> int:
        if code == RETURN:
            self._answers[operand] = len(self._code)
        self._code.append((code, true, false, operand))
        return len(self._code) - 1


def _block(program: Program) -> list[Instruction]:
    code: list[Instruction] = []
    for when, answer in program:
        row = [instruction for condition in when for instruction in _test(condition)]
        row.append((RETURN, 0, 0, answer))
        code += [_resolved(instruction, len(row) - at - 1) for at, instruction in enumerate(row)]
    return code


def _test(condition: Condition) -> Iterable[Instruction]:
    """Falls through where the condition holds, else jumps to FAIL."""
    low, high = ARGUMENTS_AT + 8 * condition.argument, ARGUMENTS_AT + 8 * condition.argument + 4
    mask_low, mask_high = condition.mask & _WORD, condition.mask >> 32
    words = [(high, mask_high, condition.bits >> 32)] if mask_high else []
    words += [(low, mask_low, condition.bits & _WORD)] if mask_low else []
    code: list[Instruction] = []
    for at, mask, bits in reversed(words):
        jumps = (FAIL, 0) if condition.differs else (0, FAIL)
        if condition.differs and code:
            jumps = (0, len(code))  # the first word differs already: past the test of the second
        narrowing = [(AND, 0, 0, mask)] if mask != _WORD else []
        code = [(LOAD, 0, 0, at), *narrowing, (JUMP_EQUAL, *jumps, bits), *code]
    return code


def _resolved(instruction: Instruction, fail: int) -> Instruction:
    code, true, false, operand = instruction
    if fail > FARTHEST and FAIL in (true, false):
        raise ValueError(f"a rule with too many conditions: a jump passes no more than {FARTHEST} instructions; make it several rules")
    return code, fail if true == FAIL else true, fail if false == FAIL else false, operand


def _closing(needing: dict[str, tuple[Condition, ...]], numbers: Mapping[str, int]) -> bytes:
    """Denies exactly the calls that handing the listener out needed."""
    code: list[Instruction] = [(LOAD, 0, 0, NUMBER_AT)]
    for name, when in needing.items():
        block = _block(((when, RET_ERRNO | EPERM), ((), RET_ALLOW)))
        code += [(JUMP_EQUAL, 0, len(block), numbers[name]), *block]
    return _encode([*code, (RETURN, 0, 0, RET_ALLOW)])


def _encode(code: list[Instruction]) -> bytes:
    if len(code) > PROGRAM_MAX:
        raise ValueError(f"a filter of {len(code)} instructions; the kernel takes {PROGRAM_MAX}")
    return b"".join(
        [operation.to_bytes(2, "little") + bytes((true, false)) + operand.to_bytes(4, "little") for operation, true, false, operand in code]
    )
