# SPDX-License-Identifier: Apache-2.0
"""Runs contenders in interleaved rounds: A B C, A B C, ... so that a change of the machine's mood meets them all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress

from tests.bench.model import CHECKOUT, Contender, Section
from tests.bench.results import Results

#: A contender that failed this often is left out of the rounds that remain.
PATIENCE = 2
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A contender did not deliver; the text says why."""


def run_section(section: Section, rounds: int) -> Results:
    """One uncounted round to warm up, then ``rounds`` counted ones."""
    results = Results(section)
    failures: dict[str, int] = {}
    counted = section.rounds or rounds
    for number in range(1 if section.rounds else 0, counted + 1):
        for contender in section.contenders:
            if failures.get(contender.name, 0) >= PATIENCE:
                continue
            _progress(f"{section.title}: {f'round {number} of {counted}' if number else 'warm-up'}: {contender.name}")
            try:
                busy, lines = run_contender(contender, section.timeout)
            except Failed as reason:
                failures[contender.name] = failures.get(contender.name, 0) + 1
                results.failures[contender.name] = str(reason)
                continue
            if number:
                results.others_busy.append(busy)
                for key, value, unit in lines:
                    results.add(contender.name, key, value, unit)
    _progress("")
    return results


def run_contender(contender: Contender, timeout: float) -> tuple[float, list[tuple[str, float, str]]]:
    """Run it once; how busy others kept the machine meanwhile (0 to 1), and its figures. Raises :class:`Failed`."""
    busy, own, begun = _busy_seconds(), _own_seconds(), time.monotonic()
    process = subprocess.Popen(
        contender.argv,
        cwd=CHECKOUT,
        env=_environment(contender),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        output, complaints = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise Failed(f"not done after {timeout:.0f} s") from None
    except BaseException:
        _kill(process)
        raise
    if process.returncode:
        raise Failed(f"exit status {process.returncode}: {_tail(complaints)}")
    lines = [line for line in map(_parse, output.splitlines()) if line is not None]
    if not lines:
        raise Failed(f"printed no figure: {_tail(complaints)}")
    others = (_busy_seconds() - busy) - (_own_seconds() - own)
    return max(0.0, others / (time.monotonic() - begun) / (os.cpu_count() or 1)), lines


def _environment(contender: Contender) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")}
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{CHECKOUT}{os.pathsep}{path}" if path else str(CHECKOUT)
    return {**environment, **contender.env}


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _parse(line: str) -> tuple[str, float, str] | None:
    words = line.split()
    try:
        return (words[0], float(words[1]), words[2]) if len(words) == 3 else None
    except ValueError:
        return None


def _tail(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "no complaint"


def _busy_seconds() -> float:
    """CPU seconds that all of the machine was busy, time stolen by the host included."""
    with open("/proc/stat", encoding="ascii") as file:
        times = [int(word) for word in file.readline().split()[1:9]]
    return (sum(times) - times[3] - times[4]) / TICKS


def _own_seconds() -> float:
    uses = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
