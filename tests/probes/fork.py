# SPDX-License-Identifier: Apache-2.0
"""Start as many tasks as may be: argv is process or thread, and the ceiling. Prints how many there were."""

import os
import signal
import sys
import threading

kind, ceiling = sys.argv[1], int(sys.argv[2])
started, pids = 0, []
stop = threading.Event()
threading.stack_size(65536)
try:
    while started < ceiling:
        if kind == "thread":
            threading.Thread(target=stop.wait, daemon=True).start()
        else:
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            pids.append(pid)
        started += 1
except (OSError, RuntimeError):
    pass
print(started, flush=True)
for pid in pids:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
os._exit(0 if started == ceiling else 3)
