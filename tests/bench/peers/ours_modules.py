# SPDX-License-Identifier: Apache-2.0
"""ours_modules COMMAND...: runs a Python command that lists what it imports, and counts that."""

from __future__ import annotations

import subprocess
import sys


def main() -> None:
    """Run the contender."""
    done = subprocess.run([sys.executable, "-X", "importtime", *sys.argv[1:]], capture_output=True, text=True, check=True)
    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    print(f"asyncio {sum(name.partition('.')[0] == 'asyncio' for name in names)} modules\nmodules {len(names) - 1} modules")


main()
