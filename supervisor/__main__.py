# SPDX-License-Identifier: Apache-2.0
"""``python -m supervisor``: the command line."""

from supervisor.cli.main import main

main()
