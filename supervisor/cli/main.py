# SPDX-License-Identifier: Apache-2.0
"""The ``ringfence`` command: finds the verb and imports only what it needs."""

from __future__ import annotations

import gc
import os
import sys

gc.disable()  # a short-lived command: collecting while modules load costs more than it could free

VERBS = {
    "run": "run a command inside limits and say how it ended",
    "policy": "check, show, compare and convert policy files",
    "doctor": "prove live what this host can enforce, and say how to get the rest",
    "compat": "take another tool's command line: isolate, runexec, timeout",
    "version": "print the version",
}


def main() -> None:
    """Run the command line of this process and exit with its status."""
    try:
        _undo_locale_coercion()
        status = dispatch(sys.argv[1:])
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # None where the descriptor was closed when Python started
                stream.flush()
    except BrokenPipeError:
        status = 128 + 13  # whoever read our output left: what SIGPIPE would have said
    except KeyboardInterrupt:
        status = 128 + 2
    except (OSError, ImportError, MemoryError) as error:
        os.write(2, f"ringfence: {type(error).__name__}: {error}\n".encode("utf-8", "backslashreplace"))
        status = 125 if sys.argv[1:2] in (["run"], ["compat"]) else 1
    os._exit(status)  # nothing is left to clean up, and tearing the interpreter down takes longer than a short job


def _undo_locale_coercion() -> None:
    """In the C locale Python sets LC_CTYPE for itself and for whatever it starts (PEP 538): what we start has the environment we got."""
    if "LC_CTYPE" not in os.environ:
        return
    with open("/proc/self/environ", "rb") as file:  # as it was at our exec
        _, found, rest = (b"\0" + file.read()).partition(b"\0LC_CTYPE=")
    if found:
        os.environb[b"LC_CTYPE"] = rest.partition(b"\0")[0]
    else:
        del os.environ["LC_CTYPE"]


def dispatch(argv: list[str]) -> int:
    """Run one verb; returns the exit status."""
    verb = argv[0] if argv else "help"
    if verb == "run":
        from supervisor.cli.run import run

        return run(argv[1:])
    if verb == "policy":
        from supervisor.cli.policy.verbs import policy

        return policy(argv[1:])
    if verb == "doctor":
        from supervisor.cli.doctor import doctor

        return doctor(argv[1:])
    if verb == "compat":
        from supervisor.cli.compat.main import compat

        return compat(argv[1:])
    if verb in ("version", "--version", "-V"):
        from supervisor import __version__

        print(f"ringfence {__version__}")
        return 0
    if verb in ("help", "--help", "-h"):
        print(_usage())
        return 0 if argv else 2
    from supervisor.model.spelling import nearest

    print(f"ringfence: unknown verb {verb[:60]!r}{nearest(verb, VERBS)}; see 'ringfence help'", file=sys.stderr)
    return 2


def _usage() -> str:
    lines = ["usage: ringfence VERB ...", ""]
    lines += [f"  {verb:<8} {text}" for verb, text in VERBS.items()]
    return "\n".join([*lines, "", "'ringfence VERB --help' says more."])
