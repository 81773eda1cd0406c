# SPDX-License-Identifier: Apache-2.0
"""``--file`` and ``--collect`` from the outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import run


def test_files_go_in_and_what_matches_comes_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    script = "tr a-z A-Z < in/x > r.txt; ln -s /etc/passwd l.txt"
    done = run("--file", f"{tmp_path}/a:in/x", "--collect", f"*.txt:{tmp_path}/out", "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "ringfence: --collect: 'l.txt' is left out (symbolic_link)\n")
    assert (tmp_path / "out" / "r.txt").read_text() == "ABC"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["r.txt"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--file", "nothing"), "must be SRC:NAME"),
        (("--file", "/etc/passwd:../x"), "without '..'"),
        (("--file", "/nonexistent:x"), "cannot be placed"),
        (("--collect", "*.txt"), "must be PATTERN:DIR"),
        (("--file", "/etc/hostname:x", "--working-directory", "/"), "--working-directory"),
    ],
)
def test_bad_input_is_one_line_and_125(options: tuple[str, ...], says: str) -> None:
    done = run(*options, "--", "true")
    assert done.returncode == 125 and says in done.stderr and done.stderr.count("\n") == 1
