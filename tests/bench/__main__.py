# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench``: see :mod:`tests.bench.cli`."""

import sys

from tests.bench.cli import main

sys.exit(main())
