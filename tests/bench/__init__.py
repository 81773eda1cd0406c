# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the budgets: contenders side by side in one run, and PASS or MISS for each budget. See README.md."""
