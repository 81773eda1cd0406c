# SPDX-License-Identifier: Apache-2.0
"""The demo: real and hostile programs through ``ringfence run`` under one policy, and what came of each."""
