# SPDX-License-Identifier: Apache-2.0
"""Rules for every test: what it requires is probed, a skip says why, and nothing is left behind.

``@pytest.mark.requires("memory", "root")`` skips a test where the host lacks one of these (see
facts.py). ``RINGFENCE_REQUIRED=memory,root`` turns such a skip into a failure. An ``async`` test runs on
an event loop of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import inspect
import os
import re
import signal
import threading
from collections.abc import Iterator

import facts
import pytest
from own import children, descriptors

REQUIRED = frozenset(name for name in os.environ.get("RINGFENCE_REQUIRED", "").replace(" ", "").split(",") if name)
TIMEOUT_SECONDS = 60
REQUIRES = re.compile(r"requires (\w+): ")  # how the reason of every skip for the lack of something begins
LEFT_ALONE = ("model", "control", "meta", "vm", "demo", "bench")  # folders without processes of their own, or with rules of their own


def pytest_configure(config: pytest.Config) -> None:
    # started in the background of a shell or by nohup, where these are ignored: programs under test would inherit that
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    config.addinivalue_line("filterwarnings", "error")
    config.addinivalue_line("markers", "requires(name, ...): skip, saying why, where the host lacks one of these; see tests/facts.py")
    unknown = REQUIRED - facts.PROBES.keys()
    if unknown:
        raise pytest.UsageError(f"RINGFENCE_REQUIRED: nobody knows {', '.join(sorted(unknown))}; known are {', '.join(facts.PROBES)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


def _needs(item: pytest.Item) -> list[str]:
    return [str(name) for marker in item.iter_markers("requires") for name in marker.args]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in _needs(item):
        if reason := facts.missing(name):
            pytest.skip(f"requires {name}: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A test that was skipped for the lack of something that RINGFENCE_REQUIRED names is a failure."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        lacks = REQUIRES.search(reason)
        if lacks and lacks[1] in REQUIRED:
            report.outcome = "failed"
            report.longrepr = f"skipped although {lacks[1]} is in RINGFENCE_REQUIRED: {reason}"
    return report  # type: ignore[return-value]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def own_cgroups() -> list[str]:
    """Directories that supervisors of this process left in the cgroup tree."""
    base = facts.cgroup_base()
    return [] if base is None else [path.name for path in base.glob(f"ringfence-{os.getpid()}-*")]


def abandoned_cgroups() -> set[str]:
    """Directories of ours whose supervisor is dead, whoever it was: what only a sweep removes."""
    found: set[str] = set()
    base = facts.cgroup_base()
    for path in [] if base is None else base.glob("ringfence-*"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.add(path.name)
        except OSError:
            pass
        finally:
            os.close(fd)
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test: no cgroup of ours, no child, no thread and no descriptor more than before."""
    if request.path.parent.name in LEFT_ALONE:
        yield
        return
    facts.cgroup_base()  # its own descriptors come and go before the count
    threads = threading.active_count()
    before = descriptors()
    known = {*children(), *own_cgroups()}  # what an earlier test left is that test's failure
    yield
    after = descriptors()
    if len(after) > len(before):
        gc.collect()
        after = descriptors()
    new = {fd: what for fd, what in after.items() if before.get(fd) != what}
    problems = []
    if len(after) > len(before):
        problems.append(f"descriptors: {new}")
    if left := [child for child in children() if child not in known]:
        problems.append(f"children: {left}")
    if left := [name for name in own_cgroups() if name not in known]:
        problems.append(f"cgroups: {left}")
    if threading.active_count() > threads:
        problems.append(f"threads: {threading.enumerate()}")
    assert not problems, "left behind: " + "; ".join(problems)


@pytest.fixture(params=["cgroup", "helper"])
def holder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What holds the tree of every job of the test: its cgroup, or the init helper."""
    name = str(request.param)
    if name == "helper":
        monkeypatch.setenv("RINGFENCE_CGROUP", "none")
    elif reason := facts.missing("cgroup"):
        pytest.skip(f"requires cgroup: {reason}")
    return name


@pytest.fixture
def no_cgroup(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of the test are held by the init helper."""
    monkeypatch.setenv("RINGFENCE_CGROUP", "none")
