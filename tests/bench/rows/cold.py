# SPDX-License-Identifier: Apache-2.0
"""From nothing: an import, and one command through the command line. Everything runs on this interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.build import c_program
from tests.bench.model import Better, Budget, Role, Section, Setting, peer

KEYS = {"time": Better.LOWER}
ENTRY_POINT = ("-c", "import sys; from supervisor.cli.main import main; sys.exit(main())")
IMPORT_PEER = "import asyncio, json"
RUN_PEER = "python3 -c pass, then /bin/true"


def sections(setting: Setting) -> list[Section]:
    """Imports; runs; and whether the one-shot path stays free of asyncio."""
    return [_imports(setting), _runs(setting), _asyncio_free()]


def _imports(setting: Setting) -> Section:
    budgets = (Budget(True, "time", 1.3, IMPORT_PEER), Budget(True, "time", 1.3, IMPORT_PEER, ours="from supervisor import Supervisor"))
    section = Section("cold import", KEYS, budgets)

    def python(statement: str, *flags: str) -> tuple[str, ...]:
        return (c_program("runs"), setting.count(20), sys.executable, *flags, "-c", statement)

    section.add("pass", lambda: python("pass"), Role.LIMIT)
    section.add("pass, -I -S", lambda: python("pass", "-I", "-S"))
    section.add("ours", lambda: python("import supervisor"), Role.OURS)
    section.add("from supervisor import Supervisor", lambda: python("from supervisor import Supervisor"), Role.OURS)
    section.add("from supervisor import run", lambda: python("from supervisor import run"), Role.OURS)
    section.add(IMPORT_PEER, lambda: python(IMPORT_PEER))
    section.add("import subprocess", lambda: python("import subprocess"))
    return section


def _runs(setting: Setting) -> Section:
    section = Section("cold run of /bin/true", KEYS, (Budget(True, "time", 1.5, RUN_PEER),))

    def both(*words: str) -> tuple[str, ...]:
        return (c_program("runs"), setting.count(20), *words)

    section.add(RUN_PEER, lambda: both(sys.executable, "-c", "pass", "++", "/bin/true"), Role.LIMIT)
    section.add("ours", lambda: both(*_ringfence(), "run", "--", "/bin/true"), Role.OURS)
    section.add("subprocess.run", lambda: both(sys.executable, "-c", "import subprocess; subprocess.run(['/bin/true'])"))
    return section


def _asyncio_free() -> Section:
    keys = {"asyncio": Better.LOWER, "modules": Better.LOWER}
    section = Section("modules of the one-shot path", keys, (Budget(False, "asyncio", 0),), rounds=1)
    section.add("ours", lambda: peer("ours_modules", *ENTRY_POINT, "run", "--", "/bin/true"), Role.OURS)
    return section


def _ringfence() -> tuple[str, ...]:
    """The installed entry point, or what it does."""
    script = Path(sys.executable).with_name("ringfence")
    return (str(script),) if script.exists() else (sys.executable, *ENTRY_POINT)
