"""The one error that the tier reports to a person."""

from __future__ import annotations


class VmError(Exception):
    """The virtual machine, not the command in it, failed; the text says what and what to do."""


class Interrupted(BaseException):
    """A signal asked this process to stop; not an Exception, so that no handler swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
