# SPDX-License-Identifier: Apache-2.0
"""The contenders written in Python, each a program of its own: ``python -m tests.bench.peers.NAME``."""
