# SPDX-License-Identifier: Apache-2.0
"""mp_messages queue|pipe|pipe-objects|round-trip SIZE COUNT: multiprocessing's ways; the parent receives and measures."""

from __future__ import annotations

import multiprocessing
import sys
import time
from typing import Any

from tests.bench.peers.message_figures import Figures, Trips, body_of


def produce(put: Any, size: int, count: int) -> None:
    """The child: the same body again and again."""
    body = body_of(size)
    for _ in range(count):
        put(body)


def consume(get: Any, figures: Figures, count: int) -> None:
    for _ in range(count):
        get()
        figures.received()
    figures.report()


def echo(pipe: Any, other: Any) -> None:
    """The child of round trips, until the pipe closes."""
    other.close()
    try:
        while True:
            pipe.send_bytes(pipe.recv_bytes())
    except EOFError:
        pass


def main(mode: str, size: int, count: int) -> None:
    """Run the contender."""
    context = multiprocessing.get_context("fork")
    figures = Figures(size)
    if mode == "queue":
        queue = context.Queue()
        process = context.Process(target=lambda: produce(queue.put, size, count))
        process.start()
        consume(queue.get, figures, count)
    elif mode == "round-trip":
        ours, theirs = context.Pipe()
        process = context.Process(target=lambda: echo(theirs, ours))
        process.start()
        theirs.close()
        trips, body = Trips(), body_of(size)
        for number in range(count + 200):
            if number == 200:
                trips.begin()
            began = time.perf_counter_ns()
            ours.send_bytes(body)
            ours.recv_bytes()
            trips.took(time.perf_counter_ns() - began)
        trips.report()
        ours.close()
    else:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=lambda: produce(theirs.send if mode == "pipe-objects" else theirs.send_bytes, size, count))
        process.start()
        consume(ours.recv if mode == "pipe-objects" else ours.recv_bytes, figures, count)
    process.join()


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
