# SPDX-License-Identifier: Apache-2.0
"""Print every rlimit of this process as JSON: [[soft, hard], ...], -1 for infinity."""

import json
import resource

print(json.dumps([resource.getrlimit(number) for number in range(16)]))
