# SPDX-License-Identifier: Apache-2.0
"""Functions for the workers of pools under test, which find them by this module's name."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any


def add(first: int, second: int = 1) -> int:
    return first + second


def pid(*_: object) -> int:
    return os.getpid()


def nap(seconds: float, *given: Any) -> Any:
    time.sleep(seconds)
    return given[0] if given else seconds


def refuse(text: str) -> None:
    raise ValueError(text)


def leave(code: int) -> None:
    os._exit(code)


def exit_politely(code: int) -> None:
    sys.exit(code)


def crash(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


def stop_iteration() -> None:
    raise StopIteration("enough")


def make_lock() -> object:
    return threading.Lock()


class Stubborn(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def raise_stubborn() -> None:
    raise Stubborn(1, 2)


class Mute(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def raise_mute() -> None:
    raise Mute


class Bolting(Exception):
    """Leaves the interpreter when it is pickled, or when it is unpickled."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        if self.where == "there":
            sys.exit(3)
        return sys.exit, (4,)


def raise_bolting(where: str) -> None:
    raise Bolting(where)


class Touchy:
    """Can be pickled, but is refused where it arrives."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        return (arrive, (self.where, os.getpid()))


def arrive(where: str, sender: int) -> str:
    if os.getpid() != sender:
        raise RuntimeError(f"refused {where}")
    return where


def make_touchy() -> Touchy:
    return Touchy("back")


def append(path: str, text: str, seconds: float = 0) -> str:
    """Write a line in one go, so that every call leaves its trace."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)
    time.sleep(seconds)
    return text


def say_and_wait(fd_path: str, text: str) -> None:
    """Open a FIFO, say that we are here, and wait for ever."""
    with open(fd_path, "w", encoding="utf-8") as file:
        file.write(f"{text} {os.getpid()}\n")
    while True:
        signal.pause()


def say_and_give_up_politely(fd_path: str) -> str:
    try:
        say_and_wait(fd_path, "here")
    except KeyboardInterrupt:
        return "gave up"
    return "never"


def leave_a_child(path: str) -> None:
    """Fork a grandchild that would live on, say its pid, and die."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    append(path, str(child))
    os._exit(5)


def take_memory(size: int) -> int:
    return sum(bytearray(b"x") * size) and size


def grow_memory(size: int) -> int:
    """Keep it: the worker gets larger."""
    kept.append(b"x" * size)
    return os.getpid()


def soft_limit(resource_number: int) -> int:
    import resource

    return resource.getrlimit(resource_number)[0]


def hard_limit(resource_number: int) -> int:
    import resource

    return resource.getrlimit(resource_number)[1]


def cgroup_of_a_busy_worker() -> str:
    """Its cgroup, told after a while in which no other task can be given to it."""
    time.sleep(0.3)
    return cgroup()


def cgroup() -> str:
    with open("/proc/self/cgroup", encoding="ascii") as file:
        return file.read().rstrip().rpartition("\n")[2]


def parent() -> int:
    return os.getppid()


def set_up(path: str, code: int = 0) -> None:
    append(path, "set up")
    if code:
        raise OSError(code, "not today")


def die_soon(path: str) -> None:
    """The worker gets ready, and ends before it is given anything."""
    append(path, "up")
    threading.Timer(0.05, os._exit, [6]).start()


def loaded(module: str) -> bool:
    return module in sys.modules


def multiply(size: int) -> float:
    """Enough for OpenBLAS to use its threads."""
    import numpy as np

    return float(np.ones((size, size)).dot(np.ones((size, size))).sum())


def draw() -> float:
    import numpy as np

    return float(np.random.random())


kept: list[bytes] = []
