# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.stress [--seconds N] [--seed N] [ACTOR...]``: see tests/stress/cli.py."""

import sys

from tests.stress.cli import main

if __name__ == "__main__":  # the workers of its pools load it under another name
    sys.exit(main(sys.argv[1:]))
