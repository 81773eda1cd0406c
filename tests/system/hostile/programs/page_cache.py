# SPDX-License-Identifier: Apache-2.0
"""Hostile: reads ten times its memory from files."""

import os

WANTED = 320 << 20
done = 0
while done < WANTED:
    for folder, _, names in os.walk("/usr"):
        for name in names:
            try:
                with open(f"{folder}/{name}", "rb", buffering=0) as file:
                    while done < WANTED and (more := len(file.read(1 << 16))):
                        done += more
            except OSError:
                continue
print("read", done >> 20, "MiB")
