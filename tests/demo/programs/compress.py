# SPDX-License-Identifier: Apache-2.0
"""Real work: pack Python's standard library into a tar.gz and hash it, twice; the digests must be equal.

usage: compress.py ARCHIVE
Prints one JSON object: files, bytes (before compression) and digests (SHA-256 of the archive, one of each pass).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
import sysconfig
import tarfile
from pathlib import Path

LEFT_OUT = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "ensurepip", "idlelib"}


def sources(root: Path) -> list[Path]:
    """Every Python source of the library, in an order that does not depend on the file system."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        found += [path for name in names if name.endswith(".py") and (path := Path(folder, name)).is_file()]
    return sorted(found)


def pack(root: Path, files: list[Path], target: Path) -> int:
    """Write the archive without anything that differs from run to run; returns the bytes that went in."""
    total = 0
    with target.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for path in files:
            member = tarfile.TarInfo(str(path.relative_to(root)))
            member.size = path.stat().st_size
            with path.open("rb") as source:
                archive.addfile(member, source)
            total += member.size
    return total


def main() -> None:
    root, target = Path(sysconfig.get_path("stdlib")), Path(sys.argv[1])
    files = sources(root)
    digests = []
    total = 0
    for _ in range(2):
        total = pack(root, files, target)
        digests.append(hashlib.sha256(target.read_bytes()).hexdigest())
    print(json.dumps({"files": len(files), "bytes": total, "digests": digests}))


main()
