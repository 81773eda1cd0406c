# SPDX-License-Identifier: Apache-2.0
"""``ringfence policy diff``: what a change tightens, loosens or changes."""

from __future__ import annotations

from supervisor.cli.policy.verbs import print_json, read_options
from supervisor.kernel.policy_files import load_policy
from supervisor.model.policy.compare import TIGHTENED, compare
from supervisor.model.spelling import visible
from supervisor.model.value import plain


def diff(argv: list[str]) -> int:
    """Print one line a difference; 0, or with ``--no-looser`` 1 unless all of them are known to tighten."""
    options, (before, after) = read_options(argv, {"json": 0, "no-looser": 0}, 2, 2)
    differences = compare(load_policy(before), load_policy(after))
    if "json" in options:
        print_json({"version": 1, "differences": plain(differences)})
    else:
        width = max([len(difference.key) for difference in differences], default=0)
        for item in differences:
            print(visible(f"{item.kind:<9}  {item.key:<{width}}  {item.before or 'not set'} -> {item.after or 'not set'}"))
        if not differences:
            print("no difference")
    tighter = all(difference.kind == TIGHTENED for difference in differences)
    return 0 if tighter or "no-looser" not in options else 1
