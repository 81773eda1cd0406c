# SPDX-License-Identifier: Apache-2.0
"""Fuzzing of every parser: mutated texts, one property each, a corpus that is kept."""
