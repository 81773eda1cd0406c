# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.demo``: see :mod:`tests.demo.cli`."""

import sys

from tests.demo.cli import main

sys.exit(main())
