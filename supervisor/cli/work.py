# SPDX-License-Identifier: Apache-2.0
"""``--file`` and ``--collect`` of ``ringfence run``: a work directory for the command alone."""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.errors import ConfigError
from supervisor.kernel.work_directory import WorkDirectory
from supervisor.model.session import in_work
from supervisor.model.transfer import TransferCaps, json_name, parse_files, parse_patterns
from supervisor.model.value import replace
from supervisor.runtime.files import owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.model.spec import JobSpec


class Work:
    """Owns the work directory of one command. Raises :class:`ConfigError` for wrong options, before anything is made."""

    def __init__(self, files: list[str], collect: list[str]) -> None:
        self._files = parse_files({target: Path(source) for source, target in (_pair("file", text) for text in files)})
        self._collect = [_pair("collect", text) for text in collect]
        parse_patterns([pattern for pattern, _ in self._collect])
        self._directory: WorkDirectory | None = None

    def prepare(self, spec: JobSpec) -> JobSpec:
        """Make the directory, place the files; the specification of the same command working there."""
        if spec.working_directory is not None and spec.sandbox is None:
            raise ConfigError("--working-directory: goes with neither --file nor --collect, which make a directory of their own")
        self._directory = WorkDirectory(owner=owner_of(spec.credentials))
        self._directory.put(self._files)
        sandbox, place = in_work(spec.sandbox, self._directory.path)
        return replace(spec, sandbox=sandbox, working_directory=place)

    def collect(self) -> list[str]:
        """Bring out what matches; a line for everything that was left out."""
        assert self._directory is not None
        lines = []
        for pattern, into in self._collect:
            found = self._directory.collect(pattern, TransferCaps(), into)
            lines += [f"--collect: {json_name(name)!r} is left out ({reason})" for name, reason in found.skipped.items()]
        return lines

    def close(self) -> str:
        """Remove the directory; why it is still there, or nothing."""
        directory, self._directory = self._directory, None
        return "" if directory is None else directory.remove()


def _pair(option: str, text: str) -> tuple[str, str]:
    left, colon, right = text.rpartition(":")
    if not colon or not left or not right:
        shape = "SRC:NAME" if option == "file" else "PATTERN:DIR"
        raise ConfigError(f"--{option}: {text[:60]!r} must be {shape}")
    return left, os.path.abspath(right) if option == "collect" else right
