# SPDX-License-Identifier: Apache-2.0
"""restart WHO COUNT CHILD: kill a service that has run for a while, again and again; how long until its replacement's first line.

``WHO`` is ``c PROGRAM``, ``ours``, ``ours-300``, ``supervisord``, ``circus``, ``runit`` or ``s6``. The supervisor is a process of its own; the time
runs from before kill(2) to the clock that the replacement itself reads.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

#: Longer than runit and s6 want a service to have lived before they restart it without a pause.
LIVED_S = 1.1
PATIENCE_S = 15


def command(who: str, words: list[str], folder: Path) -> list[str]:
    """The supervisor, set up in ``folder`` to keep the service running."""
    service = folder / "service"
    service.mkdir()
    if who == "c":
        return words
    if who.startswith("ours"):
        return [sys.executable, "-m", "tests.bench.peers.ours_service", who.partition("-")[2] or "0", *words]
    if who in ("runit", "s6"):
        run = service / "run"
        run.write_text(f"#!/bin/sh\nexec {' '.join(words)}\n")
        run.chmod(0o755)
        return ["runsv" if who == "runit" else "s6-supervise", str(service)]
    config = folder / "config"
    if who == "supervisord":
        config.write_text(
            f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={folder}/pid\n"
            f"[program:one]\ncommand={' '.join(words)}\nautorestart=true\nstartsecs=0\nstartretries=1000000\n"
        )
        return ["supervisord", "-c", str(config)]
    config.write_text(
        f"[circus]\nendpoint=ipc://{folder}/e\npubsub_endpoint=ipc://{folder}/p\n[watcher:one]\ncmd={words[0]}\nargs={words[1]}\nrespawn=true\n"
    )
    return ["circusd", str(config)]


def first_line(fifo: int) -> tuple[int, int]:
    """Clock and process id that the next run says; raises TimeoutError."""
    if not select.select([fifo], [], [], PATIENCE_S)[0]:
        raise TimeoutError("no replacement came")
    stamp, pid = struct.unpack("=QQ", os.read(fifo, 16))
    return int(stamp), int(pid)


def main() -> None:
    """Run the contender and print its figures."""
    who, count, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    folder = Path(tempfile.mkdtemp(prefix="restart-"))
    path = folder / "fifo"
    os.mkfifo(path)
    fifo = os.open(path, os.O_RDWR)  # so that it never ends
    env = {
        name: text for name, text in os.environ.items() if name != "PYTHONPATH" or who.startswith("ours")
    }  # supervisord's package is ours by name
    with open(os.devnull, "wb") as null:
        process = subprocess.Popen(command(who, [*words, str(path)], folder), stdout=null, stderr=null, process_group=0, env=env)
    times = []
    pid = 0
    try:
        _, pid = first_line(fifo)
        for _ in range(count):
            time.sleep(LIVED_S)
            killed = time.monotonic_ns()
            os.kill(pid, signal.SIGKILL)
            begun, pid = first_line(fifo)
            times.append((begun - killed) / 1e6)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        with suppress(OSError):  # some leave their service running
            if str(path) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
        os.close(fifo)
        shutil.rmtree(folder)
    times.sort()
    print(
        f"restart_p50 {times[(len(times) - 1) // 2]:.3f} ms\nrestart_p99 {times[int((len(times) - 1) * 0.99)]:.3f} ms\nrestart_max {times[-1]:.3f} ms"
    )


main()
