# SPDX-License-Identifier: Apache-2.0
"""What each program must have left, printed or used, beside its verdict.

A check returns its proof in words and raises :class:`AssertionError` with what is wrong otherwise.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.demo.remains import is_alive

if TYPE_CHECKING:
    from tests.demo.invoke import Ran

SECOND_NS = 1_000_000_000
ELF = b"\x7fELF"
NUMBERS = {"primes": 148933, "energy_before": "-0.169075164", "energy": "-0.169079859", "hilbert": "256"}
DATABASE = {"rows": 50_000, "total": 24_975_000, "busiest": 44, "integrity": "ok"}
OUTPUT_MAX = 256 << 10
FILE_MAX = 8 << 20
TASKS_MAX = 32
CPU_MAX_NS = SECOND_NS


def require(truth: object, text: str) -> None:
    """Like assert, but not to be switched off."""
    if not truth:
        raise AssertionError(text)


def _printed(ran: Ran) -> Any:
    try:
        return json.loads(ran.stdout)
    except ValueError:
        raise AssertionError(f"printed {ran.stdout[:80]!r} instead of one JSON object") from None


def objects_exist(ran: Ran) -> str:
    sources = ran.stdout.decode("utf-8", "replace").split("\n")[:-1]
    objects = sorted(ran.folder.glob("*.o"))
    require(sources, "no source was compiled")
    require(
        {path.stem for path in objects} == {Path(path).stem for path in sources}, f"{len(sources)} sources became {len(objects)} objects"
    )
    for path in objects:
        require(path.read_bytes()[:4] == ELF, f"{path.name} is not an ELF object")
    return f"{len(objects)} ELF objects from {len(sources)} sources of native/"


def digests_agree(ran: Ran) -> str:
    printed = _printed(ran)
    first, second = printed["digests"]
    archive = ran.folder / "library.tar.gz"
    ours = hashlib.sha256(archive.read_bytes()).hexdigest()
    require(first == second, f"two passes gave {first[:16]} and {second[:16]}")
    require(ours == second, f"the archive's digest is {ours[:16]}, the program printed {second[:16]}")
    with tarfile.open(archive) as members:
        sizes = [member.size for member in members]
    require(len(sizes) == printed["files"] > 100, f"{printed['files']} files went in, {len(sizes)} are in the archive")
    require(sum(sizes) == printed["bytes"], f"{printed['bytes']} bytes went in, {sum(sizes)} are in the archive")
    return f"sha256 {ours[:16]} twice and recomputed; {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB, read back"


def rows_are_there(ran: Ran) -> str:
    printed = _printed(ran)
    require(printed == DATABASE, f"found {printed}, not {DATABASE}")
    with closing(sqlite3.connect(ran.folder / "demo.db")) as database:
        rows, total = database.execute("SELECT count(*), sum(amount) FROM entry").fetchone()
    require((rows, total) == (DATABASE["rows"], DATABASE["total"]), f"the file holds {rows} rows of {total} in total")
    return f"{rows} rows, total {total}, integrity_check ok, counted again from the file"


def numbers_are_right(ran: Ran) -> str:
    printed = _printed(ran)
    require(printed == NUMBERS, f"computed {printed}, not {NUMBERS}")
    return f"{printed['primes']} primes, n-body energy {printed['energy']}, inverse Hilbert sum {printed['hilbert']}"


def ceiling_not_reported(ran: Ran) -> str:
    kernel = ran.enforcement("memory_max").startswith("cgroup")
    reached = b"own ceiling" in ran.stdout
    require(not (kernel and reached), "it took 400 MB although the kernel holds it at 128 MB")
    return "ended at the cap" if not reached else "ended by a sample, at its own ceiling of 400 MB"


def forks_refused(ran: Ran) -> str:
    code, said = ran.outcome["exit"]["code"], ran.stdout.decode("utf-8", "replace").strip()
    if ran.enforcement("tasks_max").startswith("cgroup"):
        number = said.removeprefix("fork number ").partition(":")[0]
        require(code == 3 and number.isdecimal() and int(number) <= TASKS_MAX, f"exit {code}, said {said!r}: not refused by the cap")
        return f"the kernel refused {said}"
    require(ran.outcome["killed"], f"exit {code}, said {said!r}: nobody ended it")
    return "ended by a sample, its children with it"


def cpu_within_reason(ran: Ran) -> str:
    used = ran.outcome["usage"]["cpu_ns"]
    require(used is not None, "its processor time is not known")
    require(CPU_MAX_NS <= used < 2 * CPU_MAX_NS, f"used {used / SECOND_NS:.3f} s of 1 s")
    return f"two processes together used {used / SECOND_NS:.3f} s of 1 s"


def output_capped(ran: Ran) -> str:
    require(0 < len(ran.stdout) <= OUTPUT_MAX, f"{len(ran.stdout)} bytes came through, {OUTPUT_MAX} are allowed")
    return f"{len(ran.stdout)} bytes came through of {OUTPUT_MAX} allowed"


def sigterm_was_ignored(ran: Ran) -> str:
    require(b"ignored SIGTERM" in ran.stdout, f"said {ran.stdout[:80]!r}: it was not asked to end first")
    require(ran.outcome["exit"]["signal"] == 9, f"ended by signal {ran.outcome['exit']['signal']}, not by SIGKILL")
    return "asked by SIGTERM, ignored it, killed after 1 s of grace"


def daemon_is_gone(ran: Ran) -> str:
    text = ran.stdout.decode("utf-8", "replace").strip()
    require(text.isdecimal(), f"printed {text[:40]!r} instead of a pid")
    require(not is_alive(int(text), ran.marker), f"the daemon, pid {text}, is still alive")
    return f"the daemon, pid {text}, is gone"


def ended_early(ran: Ran) -> str:
    wall = ran.outcome["usage"]["wall_ns"]
    require(wall is not None and wall < 10 * SECOND_NS, f"idle for {wall} ns")
    return f"ended after {wall / SECOND_NS:.2f} s, idle for 0.7 s"


def file_capped(ran: Ran) -> str:
    size = (ran.folder / "big").stat().st_size
    require(size == FILE_MAX, f"the file has {size} bytes, not {FILE_MAX}")
    require(ran.outcome["exit"]["signal"] == 25, f"ended by signal {ran.outcome['exit']['signal']}, not by SIGXFSZ")
    return f"the file stopped at exactly {size} bytes"
