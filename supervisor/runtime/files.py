# SPDX-License-Identifier: Apache-2.0
"""One job with files in and out: a work directory for it alone."""

from __future__ import annotations

import os

from supervisor.errors import ConfigError
from supervisor.kernel.work_directory import WorkDirectory
from supervisor.model.session import in_work
from supervisor.model.spec import JobSpec
from supervisor.model.transfer import TransferCaps, parse_files, parse_patterns
from supervisor.model.value import replace
from supervisor.runtime.oneshot import run_spec
from supervisor.runtime.request import make_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from supervisor.model.outcome import Outcome
    from supervisor.model.spec import Credentials
    from supervisor.runtime.request import Command, Text


def run_with_files(
    args: Command | JobSpec, mode: Text, files: Mapping[str, Any], collect: str | Iterable[str], options: dict[str, Any]
) -> Outcome:
    """See :func:`supervisor.run`; the work directory is removed however it ends."""
    if isinstance(args, JobSpec) or options.get("cwd") is not None:
        raise ConfigError("files, collect: make a work directory of their own, so they go with neither cwd nor a JobSpec")
    parse_files(files)
    patterns = ["/".join(parts) for parts in parse_patterns(collect)]
    spec = make_spec(args, text=mode, **options)
    work = WorkDirectory(owner=owner_of(spec.credentials))
    try:
        work.put(files)
        sandbox, directory = in_work(spec.sandbox, work.path)
        outcome = run_spec(replace(spec, sandbox=sandbox, working_directory=directory))
        collected = work.collect(patterns, TransferCaps()) if patterns else None
    finally:
        left = work.remove()
    return replace(outcome, collected=collected, warnings=(*outcome.warnings, left) if left else outcome.warnings)


def owner_of(who: Credentials) -> tuple[int, int] | None:
    """Whom the files in a work directory belong to, when that is not us."""
    if who.uid is None:
        return None
    return who.uid, os.getegid() if who.gid is None else who.gid
