# SPDX-License-Identifier: Apache-2.0
"""Structured logs: what happens to a service, as records with fields, and as lines of JSON."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys

import pytest
from services import pid_of, replaced, steps

from supervisor import JsonFormatter, Service, Supervisor


async def test_a_restart_is_told_with_job_service_cause_and_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """Each record has every field; the end of a run has its outcome."""
    caplog.set_level(logging.INFO, "supervisor")
    async with Supervisor() as sup, Service(sup, steps("wait", restart="always")) as service:
        pid = pid_of(service)
        os.kill(pid, signal.SIGKILL)
        await replaced(service, pid)
    records = [record for record in caplog.records if record.name == "supervisor.service"]
    lines = [json.loads(JsonFormatter().format(record)) for record in records]
    assert {line["service"] for line in lines} == {"web"}
    ended = next(line for line in lines if line["message"].startswith("web: ended: signaled"))
    assert (ended["outcome"], ended["level"], ended["replica"]) == ("signaled", "warning", 0)
    states = [line["message"] for line in lines if line["message"].split()[-1] in ("activating", "active", "deactivating", "inactive")]
    assert states == [f"web: {state}" for state in ("activating", "active", "activating", "active", "deactivating", "inactive")]
    jobs = {line["job"] for line in lines if line["message"] == "web: active"}
    assert len(jobs) == 2 and 0 not in jobs
    whole = JsonFormatter(outcomes=True)
    full = next(document for record in records if isinstance((document := json.loads(whole.format(record))).get("outcome"), dict))
    assert full["outcome"]["exit"]["signal"] == 9


def test_a_record_of_anybody_is_one_line_of_json() -> None:
    """Text in any language, exceptions, and objects that JSON does not know."""
    record = logging.LogRecord("supervisor", logging.ERROR, __file__, 1, "caf\u00e9 %s\nline", (object,), None)
    try:
        raise ValueError("why")
    except ValueError:
        record.exc_info = sys.exc_info()
    text = JsonFormatter().format(record)
    assert "\n" not in text
    made = json.loads(text)
    assert made["message"].startswith("caf\u00e9 <class") and "ValueError: why" in made["exception"]
    assert made["time"].endswith("+00:00")


def test_nobody_hears_anything_who_did_not_ask() -> None:
    """A library is silent: a failing service prints nothing to a program without logging."""
    code = (
        "import asyncio\nfrom supervisor import *\n"
        "async def main():\n"
        "    async with Supervisor() as sup:\n"
        "        service = Service(sup, ServiceSpec(name='web', exec_start=['false'], restart='always', restart_sec=0))\n"
        "        await service.start()\n"
        "        assert await service.wait() == 'failed'\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
