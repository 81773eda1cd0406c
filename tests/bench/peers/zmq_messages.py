# SPDX-License-Identifier: Apache-2.0
"""zmq_messages SIZE COUNT: a PUSH socket in a child, a PULL socket here, over a unix socket."""

from __future__ import annotations

import os
import sys
import tempfile

import zmq

from tests.bench.peers.message_figures import Figures, body_of


def main(size: int, count: int) -> None:
    """Run the contender."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"ipc://{folder}/socket"
        pid = os.fork()
        if pid == 0:
            with zmq.Context() as context, context.socket(zmq.PUSH) as push:
                push.connect(place)
                body = body_of(size)
                for _ in range(count):
                    push.send(body)
            os._exit(0)
        with zmq.Context() as context, context.socket(zmq.PULL) as pull:
            pull.bind(place)
            figures = Figures(size)
            for _ in range(count):
                pull.recv()
                figures.received()
            figures.report()
        os.waitpid(pid, 0)


main(int(sys.argv[1]), int(sys.argv[2]))
