# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for the values of ``supervisor.model``: limits as people spell them, hosts of every kind, specifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st

from supervisor.model.capture import Capture, Tee
from supervisor.model.host import CONTROLLERS, CgroupFacts, Host
from supervisor.model.limit_kinds import LIMITS
from supervisor.model.limits import Limits
from supervisor.model.spec import COLLECT, DEVNULL, PIPE, RELAY, STDOUT, Credentials, JobSpec

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

relaxed = settings(deadline=None)  # a busy machine is not a failure
brief = settings(deadline=None, max_examples=40)  # for whole specifications on whole hosts, which take a while to make up

#: What the I/O limits of these strategies name, and where it is: the first two are the same disk.
BLOCK_DEVICES = {"/": "8:0", "/dev/sda": "8:0", "/dev/sdb": "8:16"}

infinity = st.just("infinity")
sizes: SearchStrategy[Any] = st.one_of(st.integers(0, 2**40), st.sampled_from(["64M", "256M", "1G", "1.5G", "2T"]), infinity)
durations: SearchStrategy[Any] = st.one_of(
    st.integers(1, 10**6), st.floats(0.001, 100), st.sampled_from(["2s", "1min 30s", "250ms"]), infinity
)
counts: SearchStrategy[Any] = st.one_of(st.integers(1, 10**6), st.sampled_from(["64", "1024"]), infinity)
weights = st.integers(1, 10_000)
ppm = st.integers(100, 10**8)
percents = st.builds(lambda n: f"{n // 10_000}.{n % 10_000:04d}%", ppm)
# every list holds processor 0, so that two of them never exclude each other
cpu_lists: SearchStrategy[Any] = st.frozensets(st.integers(1, 70), max_size=6).map(lambda more: (0, *sorted(more)))
bandwidths = st.dictionaries(st.sampled_from(list(BLOCK_DEVICES)), st.integers(1, 10**9), min_size=1, max_size=3)


def pairs(amounts: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """One value, or a soft and a hard one in order."""
    finite = st.integers(1, 10**6)
    both = st.tuples(finite, finite).map(lambda pair: f"{min(pair)}:{max(pair)}")
    return amounts | both | finite.map(lambda soft: f"{soft}:infinity")


_BY_UNIT = {
    "ns": durations,
    "bytes": sizes,
    "count": counts,
    "weight": weights,
    "cpus": cpu_lists,
    "devices": bandwidths,
    "percent": percents | infinity,
}
_BY_NAME: dict[str, SearchStrategy[Any]] = {
    "cpu_quota_period": st.integers(1, 1000).map(lambda ms: f"{ms}ms"),
    "limit_nice": pairs(st.integers(0, 40) | st.sampled_from(["-5", "+5"])).filter(lambda text: ":" not in str(text)) | st.just("20:30"),
    "limit_cpu": pairs(durations),
    "limit_rttime": pairs(st.sampled_from(["5ms", "1s"]) | st.integers(0, 10**9)),
}


def spelling(name: str) -> SearchStrategy[Any]:
    """A value of limit ``name`` as somebody might give it; amounts only, so that any two can be compared."""
    kind = LIMITS[name]
    if name in _BY_NAME:
        return _BY_NAME[name]
    return pairs(_BY_UNIT[kind.unit]) if kind.rlimit is not None else _BY_UNIT[kind.unit]


def spellings(names: tuple[str, ...] = tuple(LIMITS), shares: bool = False) -> SearchStrategy[dict[str, Any]]:
    """Arguments for ``Limits()``; with ``shares`` some amounts are percentages of the host."""
    shared = {"memory_min", "memory_low", "memory_high", "memory_max", "memory_swap_max", "tasks_max"} if shares else set()
    options = {name: spelling(name) | percents if name in shared else spelling(name) for name in names}
    return st.lists(st.sampled_from(names), max_size=7, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: options[name] for name in chosen})
    )


comparable_limits = spellings().map(lambda given: Limits(**given))
any_limits = spellings(shares=True).map(lambda given: Limits(**given))

cgroups = st.builds(
    lambda controllers, kill, freeze, swap: CgroupFacts(
        source="path given", path="/sys/fs/cgroup/test", controllers=controllers, has_kill=kill, has_freeze=freeze, has_swap_max=swap
    ),
    st.frozensets(st.sampled_from(CONTROLLERS)) | st.just(frozenset(CONTROLLERS)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
hosts = st.builds(
    lambda page, processors, memory, capable, hard, ignored, cgroup: Host(
        page_size=page,
        processors=processors,
        memory_total_bytes=memory,
        capable_resource=capable,
        hard_rlimits=hard,
        block_devices=BLOCK_DEVICES,
        ignored_signals=ignored,
        cgroup=cgroup,
        no_cgroup="" if cgroup else "no cgroup v2 mount was found",
    ),
    st.sampled_from([4096, 16384, 65536]),
    st.integers(1, 256),
    st.integers(2**28, 2**42),
    st.booleans(),
    st.dictionaries(st.integers(0, 15), st.integers(0, 10**7) | st.just(float("inf"))),
    st.integers(0, 2**64 - 1),
    st.none() | cgroups,
)
FULL_CGROUP = CgroupFacts(source="root", path="/sys/fs/cgroup", controllers=frozenset(CONTROLLERS))
FULL_HOST = Host(memory_total_bytes=8 << 30, processors=4, block_devices=BLOCK_DEVICES, cgroup=FULL_CGROUP)
BARE_HOST = Host(memory_total_bytes=8 << 30, processors=4, no_cgroup="no cgroup v2 mount was found")

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8) | st.binary(max_size=8).filter(
    lambda raw: 0 not in raw
)
words = texts.filter(bool)
names = words.filter(lambda name: b"=" not in name if isinstance(name, bytes) else "=" not in name)
argvs = st.tuples(words, st.lists(texts, max_size=4)).map(lambda parts: (parts[0], *parts[1]))
descriptors = st.integers(0, 40)
counted_outputs: SearchStrategy[int | Capture | Tee | None] = st.none() | st.sampled_from(
    [DEVNULL, COLLECT, RELAY, Capture("log"), Tee(COLLECT, Capture("log")), Tee(None, 5)]
)


@st.composite
def specs(draw: st.DrawFn, limits: SearchStrategy[Limits] = any_limits) -> JobSpec:
    """Any valid specification."""
    chosen = draw(limits)
    numbers = st.integers(0, 2**32 - 2)
    given = draw(st.sampled_from([None, b"", b"input"]))
    counted = chosen.output_max is not None
    outputs = (counted_outputs if counted else counted_outputs | st.just(PIPE)) | descriptors
    return JobSpec(
        argv=draw(argvs),
        env=draw(st.none() | st.dictionaries(names, texts, max_size=4)),
        working_directory=draw(st.none() | words),
        stdin=None if given is not None else draw(st.none() | st.sampled_from([PIPE, DEVNULL]) | descriptors),
        stdout=draw(outputs),
        stderr=draw(outputs | st.just(STDOUT)),
        input=given,
        limits=chosen,
        best_effort=frozenset(draw(st.sampled_from([(), tuple(chosen.given()), tuple(chosen.given())[::2]]))),
        credentials=Credentials(
            uid=draw(st.none() | numbers), gid=draw(st.none() | numbers), groups=draw(st.none() | st.lists(numbers, max_size=3).map(tuple))
        ),
        umask=draw(st.none() | st.integers(0, 0o777)),
        nice=draw(st.none() | st.integers(-20, 19)),
        oom_score_adjust=draw(st.none() | st.integers(-1000, 1000)),
        cpu_affinity=draw(st.none() | cpu_lists),
        no_new_privileges=draw(st.booleans()),
        start_new_session=draw(st.booleans()),
        process_group=draw(st.booleans()),
        controlling_terminal=draw(st.none() | descriptors),
        pass_fds=tuple(draw(st.lists(st.integers(3, 40), max_size=3))),
        die_with_parent=draw(st.booleans()),
    )


environments = st.dictionaries(
    st.binary(min_size=1, max_size=6).filter(lambda raw: 0 not in raw and b"=" not in raw) | st.just(b"PATH"),
    st.binary(max_size=12).filter(lambda raw: 0 not in raw) | st.just(b"/usr/bin::/bin"),
    max_size=4,
)


class Counted(str):
    """A text that counts how often any of its kind is compared: what grows with the square of a list's length is seen, without a clock."""

    looks = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.looks += 1
        return str.__eq__(self, other)

    def __lt__(self, other: str) -> bool:
        Counted.looks += 1
        return str.__lt__(self, other)

    def startswith(self, *given: Any) -> bool:
        Counted.looks += 1
        return str.startswith(self, *given)
