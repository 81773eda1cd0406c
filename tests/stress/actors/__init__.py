# SPDX-License-Identifier: Apache-2.0
"""What is done at the same time: each module has ``act``, which goes on until the round is over."""

from tests.stress.actors import jobs, memory, messages, pools, scopes, services, streams

ACTORS = {"jobs": jobs, "streams": streams, "messages": messages, "memory": memory, "pools": pools, "services": services, "scopes": scopes}
