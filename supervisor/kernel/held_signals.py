# SPDX-License-Identifier: Apache-2.0
"""Python's signal handlers, held back while something is done that must not be torn in two."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself imports enum
import os
import sys
from _thread import get_native_id

from supervisor.kernel.native import READY, WAKE_TOKEN, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from supervisor.kernel.native import Engine

#: All that can have a handler: not KILL and STOP, and not the two that the threads' library keeps for itself.
NUMBERS: Final = tuple([number for number in range(1, 65) if number not in (9, 19, 32, 33)])


#: Who looks for handlers again within this time finds those from before: most of what holding costs is that look.
LOOK_AGAIN_NS: Final = 1_000_000_000


class Handlers:
    """The Python handlers as they were at the last look, for somebody who holds signals often."""

    __slots__ = ("_found", "_looked_ns", "own")

    def __init__(self) -> None:
        self._found: tuple[Any, ...] = ()
        self._looked_ns = 0
        self.own: dict[int, Any] = {}  # by the number of their signal

    def look(self) -> None:
        """Take note of what is there now; one that was installed in the last second may not be seen."""
        now_ns = lib.sup_now()
        if now_ns - self._looked_ns < LOOK_AGAIN_NS:
            return
        self._looked_ns = now_ns
        found = tuple(map(_signal.getsignal, NUMBERS))
        if found != self._found:
            self.own = {number: handler for number, handler in zip(NUMBERS, found, strict=True) if callable(handler)}
            self._found = found


class HeldSignals:
    """Owns Python's handling of signals for a while: one that comes is noted, and its handler runs at :meth:`deliver` or at the end.

    Python runs a handler between any two instructions of the main thread, and what it raises, such as the
    KeyboardInterrupt of Ctrl-C, comes out there: also between a clone and the line that would have remembered
    the child. On another thread nothing is done: handlers do not run there. A second signal within the few
    instructions at the ``with``'s two ends may leave a handler in our hands; it runs all the same.
    """

    __slots__ = ("_actions", "_handlers", "_holding", "_noted", "_own", "_pipe", "_wake_before")

    def __init__(self, handlers: Handlers | None = None) -> None:
        """``handlers``: of somebody who holds signals often."""
        self._handlers = handlers or Handlers()
        self._actions: dict[int, Any] = {}  # what the kernel calls; more than signal.signal puts back: SA_RESTART, faulthandler.register
        self._holding = True
        self._noted: list[int] = []
        self._own: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None
        self._wake_before = -1

    def __enter__(self) -> HeldSignals:
        if get_native_id() != os.getpid():
            return self
        try:
            self._handlers.look()
            for number, handler in self._handlers.own.items():
                self._hold(number, handler)
        except BaseException as error:  # of a handler that was not held yet
            raise self._put_back() or error from None
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._pipe is not None:
                self._stop_waking()
        finally:
            if self._own and (trouble := self._put_back()) is not None:
                raise trouble

    def _hold(self, number: int, handler: Any) -> None:
        action = self._actions[number] = ffi.new("uint64_t[4]")
        lib.sup_read_action(number, action)
        self._own[number] = handler
        before = _signal.signal(number, self._note)
        if before is not handler:
            self._replaced(number, before)

    def _hold_new(self) -> None:
        """What a handler has installed, such as another one for the next time, is held like the others."""
        for number in NUMBERS:
            handler = _signal.getsignal(number)
            if callable(handler) and handler != self._note:
                self._hold(number, handler)

    def _replaced(self, number: int, before: Any) -> None:
        """It was not what was there at the last look."""
        self._own[number] = before
        if not callable(before):  # the default, or to be ignored
            self._install(number, before)
            del self._own[number]

    def _install(self, number: int, handler: Any) -> None:
        _signal.signal(number, handler)
        lib.sup_install_action(number, self._actions[number])

    def _note(self, number: int, frame: object) -> None:
        if self._holding:
            self._noted.append(number)
        else:
            self._own[number](number, frame)

    def _put_back(self) -> BaseException | None:
        """Run the handlers of what came, and put each where it was unless another took its place; the last thing that one raised.

        Python looks for signals at calls and at the ends of loops: the last of these is inside of the ``try``.
        """
        trouble: BaseException | None = None
        left = list(self._own.items())
        while True:
            try:
                self._holding = False
                self.deliver()
                while left:
                    number, handler = left[-1]
                    there = _signal.getsignal(number)
                    if there == self._note or there is handler:  # the second: a handler raised in between
                        self._install(number, handler)
                    left.pop()
                break
            except BaseException as error:
                trouble = error
        return trouble

    def deliver(self) -> None:
        """Run the handlers of what came, in its order. Raises what they raise; what came behind waits for the next call."""
        while self._noted:
            number = self._noted.pop(0)
            try:
                self._own[number](number, sys._getframe())
            finally:
                if self._holding:
                    self._hold_new()

    def forked(self) -> None:
        """In the child of a fork: what came was for the parent, and handlers run at once."""
        self._noted.clear()
        self._holding = False

    # ---- a wait that a signal ends, also one that comes right before it ----

    def wake(self, engine: Engine) -> None:
        """Have a signal end the engine's poll by an event that :meth:`takes` knows. Raises OSError."""
        if self._own:
            self._open_pipe()
            assert self._pipe is not None
            engine.watch_ready(WAKE_TOKEN, self._pipe[0])

    def wait_readable(self, fd: int) -> None:
        """Until there is something to read. Handlers run meanwhile; raises what they raise, and OSError without descriptors."""
        import select

        passing = self._pipe is None and bool(self._own)
        if passing:
            self._open_pipe()
        try:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            if self._pipe is not None:
                poller.register(self._pipe[0], select.POLLIN)
            while True:
                self.deliver()
                if fd in [found for found, _ in poller.poll()]:
                    return
                self._read_empty()
        finally:
            if passing:
                self._stop_waking()

    def _open_pipe(self) -> None:
        """Python writes a byte to it for every signal; an event loop that has the place of it gets the bytes from us."""
        self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        before = _signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._wake_before = -1 if before in self._pipe else before  # one that was closed, and the number is ours now

    def takes(self, event: Any) -> bool:
        """The event is of :meth:`wake`, and has been answered."""
        if event.token != WAKE_TOKEN or event.kind != READY:
            return False
        self._read_empty()
        return True

    def _read_empty(self) -> None:
        if self._pipe is not None:
            self._pass_on(self._pipe[0])

    def _pass_on(self, fd: int) -> None:
        try:
            raw = os.read(fd, 4096)
            if self._wake_before >= 0:
                os.write(self._wake_before, raw)
        except OSError:
            return  # nothing came, or whoever had the place before has more than enough

    def _stop_waking(self) -> None:
        assert self._pipe is not None
        try:
            _signal.set_wakeup_fd(self._wake_before)
        except (OSError, ValueError):  # whoever had the place has closed it without giving it back
            _signal.set_wakeup_fd(-1)
        if self._wake_before >= 0:
            self._pass_on(self._pipe[0])
        for fd in self._pipe:
            os.close(fd)
        self._pipe = None
