# SPDX-License-Identifier: Apache-2.0
"""The template of a pool's workers: it has imported what they need, and forks them into their limits.

A forked worker is not a child of the template but of the pool's process, which waits for it as for any job.
Only a process of one thread can be copied so. Libraries that keep threads (OpenBLAS under numpy does) end them
in their handlers for fork(2), which one fork for nothing runs; threads that live on are refused.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from _pickle import loads
from contextlib import suppress

from supervisor.kernel.fork_launch import template_fork
from supervisor.worker.prepare import import_all, take_over
from supervisor.worker.serve import Worker, finish, told
from supervisor.worker.wire import MESSAGE_BYTES, REPLY, TEMPLATE_READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main() -> None:
    """``python -c ... PLACE FD``: prepare, then fork a worker for each request, until the pool is gone."""
    control = socket.socket(fileno=int(sys.argv[2]))
    control.set_inheritable(False)
    try:
        take_over(loads(control.recv(MESSAGE_BYTES)))
        import_all(loads(control.recv(MESSAGE_BYTES)))
        _end_threads()
    except BaseException as error:
        with suppress(BrokenPipeError):  # the pool is gone: nobody wants to know
            control.send(told(error))
        control.close()
        return
    import ctypes  # after what was asked for, which may change the environment that it is loaded in

    python = ctypes.pythonapi
    gc.collect()
    gc.freeze()  # what is there now is shared: no collection shall touch it
    control.send(TEMPLATE_READY)
    while True:
        request, fds, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 3)
        if not request:
            control.close()
            return
        leaf_fd, fd, word_fd = fds
        python.PyOS_BeforeFork()
        reply = template_fork(request, leaf_fd)
        if reply[0] == 0:
            python.PyOS_AfterFork_Child()
            os.close(leaf_fd)
            control.close()
            _work(fd, word_fd)
        python.PyOS_AfterFork_Parent()
        for passed in fds:
            os.close(passed)
        control.send(REPLY.pack(*reply))
        _draw_anew()


def _end_threads() -> None:
    """Run every handler of pthread_atfork(3) by a fork for nothing. Raises RuntimeError when threads live on."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(
            f"the preloaded modules have started {threads - 1} threads that outlive a fork, so no worker can be forked from them: "
            "leave the module that starts them out of preload"
        )


def _draw_anew() -> None:
    """Another state of numpy's generator for the next worker, or all would draw the same; ``random`` does this by itself."""
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _work(fd: int, word_fd: int) -> None:
    """In the child."""
    try:
        Worker(fd, word_fd).serve()
    finally:
        finish()
