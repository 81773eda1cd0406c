# SPDX-License-Identifier: Apache-2.0
"""Jobs in a sandbox, for tests: Python code that tries to get out, with its interpreter shown in the sandbox."""

from __future__ import annotations

import os
import sys
from typing import Any

import supervisor

#: The interpreter where it really is; a virtual environment's is a link out of what the sandbox shows.
REAL_PYTHON = os.path.realpath(sys.executable)
PREFIX = os.path.realpath(sys.base_prefix)
LIMITS = {"wall_time_max": 30}


def strict(**given: Any) -> supervisor.Sandbox:
    """A strict sandbox that shows the interpreter as well."""
    binds = [] if PREFIX.startswith("/usr") else [PREFIX]
    return supervisor.Sandbox(level="strict", **{**given, "bind": [*binds, *given.get("bind", ())]})


def run_strict(code: str, *args: object, sandbox: supervisor.Sandbox | None = None, **options: Any) -> supervisor.Outcome:
    """Run Python code in a strict sandbox; its standard streams are collected as text."""
    command = [REAL_PYTHON, "-I", "-S", "-c", code, *map(str, args)]
    options = {"limits": LIMITS, "capture_output": True, "text": True, **options}
    return supervisor.run(command, sandbox=sandbox or strict(), **options)


def said(outcome: supervisor.Outcome) -> str:
    """What a job printed; it must have ended well."""
    assert outcome.verdict == "ok", (outcome.summary(), outcome.stderr, outcome.error)
    return str(outcome.stdout).strip()


def say(script: str, sandbox: Any = "strict", **options: Any) -> str:
    """What a shell script in a sandbox printed; it must have ended well."""
    options = {"limits": LIMITS, "capture_output": True, "text": True, **options}
    return said(supervisor.run(["/bin/sh", "-c", script], sandbox=sandbox, **options))
