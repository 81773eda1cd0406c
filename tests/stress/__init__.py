# SPDX-License-Identifier: Apache-2.0
"""Everything at once, with processes killed at random: nothing may leak, hang, get lost or lie."""
