# SPDX-License-Identifier: Apache-2.0
"""Hostile: looks for a secret of the supervisor: environment, command lines, memory."""

import glob
import os

found = [name for name, value in os.environ.items() if "hush" in value.lower()]
for path in [*glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/cmdline"), "/proc/cmdline", "/proc/keys"]:
    try:
        with open(path, "rb") as file:
            if b"HUSH" in file.read():
                found.append(path)
    except OSError:
        continue
print("found", found)
