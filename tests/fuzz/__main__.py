# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.fuzz TARGET... [--seconds N] [--seed N]``: see tests/fuzz/cli.py."""

import sys

from tests.fuzz.cli import main

sys.exit(main(sys.argv[1:]))
