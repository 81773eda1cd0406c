# SPDX-License-Identifier: Apache-2.0
"""Segments: bounds, growth, and permissions that a hostile process cannot get around, as the real kernel holds them."""

from __future__ import annotations

import gc
import mmap
import os
import subprocess
import sys
from pathlib import Path

import facts
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.errors import ClosedError, ConfigError, CorruptError
from supervisor.kernel import memfd
from supervisor.kernel.segment import Segment
from supervisor.model.grant import VARIABLE, Grant, format_grants

#: Tries everything a process can do to a descriptor and its memory, and prints what was possible.
HOSTILE = str(Path(__file__).parents[1] / "probes" / "seize_memory.py")


def attacks(grant: Grant, **options: object) -> set[str]:
    """What a hostile process that was given this could do."""
    command = [sys.executable, HOSTILE, str(grant.fds[0]), str(grant.size_bytes)]
    done = subprocess.run(command, pass_fds=grant.fds, capture_output=True, text=True, check=True, **options)  # type: ignore[call-overload]
    return set(filter(None, done.stdout.strip().split(",")))


def as_child(code: str, *grants: Grant) -> str:
    """What a process with these grants prints."""
    fds = [fd for grant in grants for fd in grant.fds]
    env = {**os.environ, VARIABLE: format_grants(grants)}
    done = subprocess.run([sys.executable, "-c", code], pass_fds=fds, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- what the kernel holds ----


def test_a_hostile_reader_of_memory_granted_for_reading_changes_nothing_even_as_root() -> None:
    """Not by mapping, mprotect, write, fallocate, truncation or a reopened descriptor; nor can it be executed."""
    with Segment.create("s", 8192) as segment:
        segment.write(b"ours")
        assert attacks(segment.grant("r")) == set()
        segment.write(b"!", 4)
        assert segment.read(0, 5) == b"ours!"


def test_a_hostile_reader_of_frozen_memory_changes_nothing() -> None:
    with Segment.freeze("s", b"content" * 100) as segment:
        assert attacks(segment.grant("r")) == set()
        assert segment.read(0, 7) == b"content"


def test_the_creator_cannot_change_frozen_memory_either() -> None:
    with Segment.freeze("s", b"content") as segment:
        with pytest.raises(ConfigError, match="may only read it"):
            segment.write(b"x")
        again = os.open(f"/proc/self/fd/{segment.grant().fds[0]}", os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.write(again, b"x")
        finally:
            os.close(again)


def test_once_sealed_a_reader_beside_writers_changes_nothing() -> None:
    """Before the seal a process of the same user, or root, can reopen the descriptor: that is what the seal is for."""
    with Segment.create("s", 8192, grant="rw") as segment:
        before = attacks(segment.grant("r"))
        assert {"reopened wrote", "reopened mapped writable"} <= before
        assert not {attack for attack in before if attack.startswith("given") or "grew" in attack or "shrank" in attack}
        segment.seal()
        segment.seal()
        assert attacks(segment.grant("r")) == set()
        with pytest.raises(ConfigError, match="'rw' cannot be granted"):
            segment.grant("rw")


@pytest.mark.requires("root", "ordinary")
def test_a_reader_of_another_user_changes_nothing_without_the_seal() -> None:
    with Segment.create("s", 8192, grant="rw") as segment:
        command = [facts.ordinary_python(), HOSTILE, str(segment.grant("r").fds[0]), "8192"]
        done = subprocess.run(
            command,
            pass_fds=segment.grant("r").fds,
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
        )
        assert done.stdout == "\n"


def test_a_writer_can_write_but_not_change_the_size_nor_execute_it() -> None:
    with Segment.create("s", 8192, grant="rw") as segment:
        found = attacks(segment.grant("rw"))
        assert {"given wrote", "given mapped writable"} <= found
        assert not {attack for attack in found if "grew" in attack or "shrank" in attack or "chmod" in attack or "executed" in attack}


def test_writing_and_executing_at_once_is_refused_unless_asked_for() -> None:
    with Segment.create("s", 4096, grant="rw") as segment:
        for access in ("rx", "rwx"):
            with pytest.raises(ConfigError, match="cannot be granted"):
                segment.grant(access)
    with pytest.raises(ConfigError, match="execute"):
        Segment.create("s", 4096, execute=True)
    with Segment.create("s", 4096, grant="rw", execute=True) as segment:
        assert segment.access == "rwx" and segment.grant("rwx").mode == "rwx"


def test_frozen_code_can_be_executed_when_asked_for() -> None:
    """A whole program, by its descriptor; nobody could have changed it."""
    with open("/bin/true", "rb") as file, Segment.freeze("true", file.read(), execute=True) as segment:
        grant = segment.grant("rx")
        done = subprocess.run([f"/proc/self/fd/{grant.fds[0]}"], pass_fds=grant.fds, check=False)
        assert done.returncode == 0


def test_nothing_is_in_the_file_system() -> None:
    before = os.listdir("/dev/shm")
    with Segment.create("visible", "1M") as segment:
        segment.write(b"x")
        assert os.listdir("/dev/shm") == before


# ---- content and bounds ----


@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.integers(-5, 320), st.binary(max_size=40)), max_size=12),
    st.integers(-5, 320),
    st.integers(-5, 320),
)
@settings(max_examples=150, deadline=None)
def test_reads_and_writes_are_those_of_a_bytearray_and_never_beyond_the_bounds(
    size: int, writes: list[tuple[int, bytes]], offset: int, count: int
) -> None:
    model = bytearray(size)
    with Segment.create("s", size) as segment:
        for at, content in writes:
            if at >= 0 and at + len(content) <= size:
                segment.write(content, at)
                model[at : at + len(content)] = content
            else:
                with pytest.raises(ConfigError, match="are not within"):
                    segment.write(content, at)
        assert segment.read() == model == bytes(segment.buffer)
        if offset >= 0 and count >= 0 and offset + count <= size:
            assert segment.read(offset, count) == model[offset : offset + count]
        else:
            with pytest.raises(ConfigError, match="are not within"):
                segment.read(offset, count)


def test_a_view_is_the_memory_itself_and_outlives_the_segment() -> None:
    segment = Segment.create("s", 100)
    view = segment.buffer
    segment.write(b"abc")
    assert bytes(view[:3]) == b"abc"
    view[3] = 100
    assert segment.read(0, 4) == b"abcd"
    segment.close()
    segment.close()
    assert bytes(view[:4]) == b"abcd"
    with pytest.raises(ClosedError):
        segment.read()
    with pytest.raises(ClosedError):
        segment.grant()
    view.release()


def test_a_readers_view_is_read_only() -> None:
    with Segment.freeze("s", b"abc") as segment, pytest.raises(TypeError, match="read-only"):
        segment.buffer[0] = 1


def test_numpy_works_on_the_memory_without_a_copy() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    with Segment.create("s", 800) as segment:
        array = numpy.frombuffer(segment.buffer, dtype="float64")
        array[:] = 1.5
        assert segment.read(0, 8) == numpy.float64(1.5).tobytes()
        with Segment.freeze("t", segment.read()) as frozen:
            assert not numpy.frombuffer(frozen.buffer, dtype="float64").flags.writeable
        del array


def test_memory_grows_up_to_its_limit_and_both_sides_see_it() -> None:
    with Segment.create("s", 100, limit="10K") as segment:
        old = segment.buffer
        grant = segment.grant("r")
        reader = Segment("s", os.dup(grant.fds[0]), "r", grant.size_bytes, grant.limit_bytes, True)
        with reader:
            with pytest.raises(ConfigError, match="are not within its 100"):
                segment.write(b"x", 100)
            segment.grow("10K")
            segment.write(b"x", 10239)
            assert (len(segment), len(reader), len(old)) == (10240, 10240, 100)
            assert reader.read(10239) == b"x" and len(reader.buffer) == 10240
            for wrong in (10241, 50):
                with pytest.raises(ConfigError, match="can grow up to 10240"):
                    segment.grow(wrong)
            with pytest.raises(ConfigError, match="may only read"):
                reader.grow("10K")
        old.release()


def test_a_size_that_a_hostile_writer_claims_is_believed_within_the_limit_only() -> None:
    with Segment.create("s", 100, limit=8000, grant="rw") as segment:
        raw = mmap.mmap(segment.grant("rw").fds[0], 0)
        raw[-mmap.PAGESIZE : 8 - mmap.PAGESIZE] = b"\xff" * 8
        raw.close()
        assert segment.size == 8000 and len(segment.read()) == 8000


# ---- in a job ----


def test_a_child_opens_what_it_was_given_by_name() -> None:
    with Segment.create("in", 64) as given_in, Segment.create("out", 64, grant="rw") as given_out:
        given_in.write(b"question")
        code = """
from supervisor.kernel.segment import Segment
question, answer = Segment.open("in"), Segment.open("out")
answer.write(question.read(0, 8)[::-1])
print(question.access, answer.access, question.size)
"""
        assert as_child(code, given_in.grant("r"), given_out.grant("rw")) == "r rw 64"
        assert given_out.read(0, 8) == b"noitseuq"


def test_a_name_that_was_not_given_says_what_was() -> None:
    with Segment.create("in", 64) as segment:
        code = """
from supervisor.kernel.segment import Segment
try:
    Segment.open("im")
except ValueError as error:
    print(error)
"""
        assert as_child(code, segment.grant()) == "im: this process was given no segment of that name (it has in)"


def test_a_descriptor_that_was_not_passed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "s:segment:r:100:999")
    with pytest.raises(ConfigError, match=r"descriptor 999 is not open: the job was started without pass_fds"):
        Segment.open("s")


def test_memory_that_is_smaller_than_was_said_is_not_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = memfd.create("small", 10)
    try:
        monkeypatch.setenv(VARIABLE, f"s:segment:r:100:{fd}")
        with pytest.raises(CorruptError, match="smaller"):
            Segment.open("s")
    finally:
        os.close(fd)


def test_the_client_loads_neither_asyncio_nor_the_native_module() -> None:
    """A job that opens a segment pays for a few small modules."""
    code = """
import sys
before = set(sys.modules)
from supervisor import SharedMemory
loaded = set(sys.modules) - before
print(*sorted(loaded & {"asyncio", "typing", "dataclasses", "enum", "re", "inspect", "subprocess", "supervisor._native", "_cffi_backend"}))
print(len([name for name in loaded if name.startswith("supervisor")]))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    heavy, ours = done.stdout.split("\n")[:2]
    assert heavy == "" and int(ours) <= 12


# ---- asked for wrongly ----


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size: must be 1 byte"),
        ({"size": "1X"}, "size: unknown unit"),
        ({"size": "infinity"}, "size: must be 1 byte"),
        ({"size": 100, "limit": 50}, "limit: 50 bytes is less"),
        ({"size": 100, "grant": "w"}, "grant: must be 'r' or 'rw'"),
        ({"size": 100, "name": "no/name"}, "name: "),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Segment.create(**{"name": "s", **options})  # type: ignore[arg-type]


def test_memory_that_nobody_closed_is_given_back() -> None:
    gc.collect()  # of what earlier tests left
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        Segment.create("s", 4096).grant("r")
        Segment.freeze("t", b"x").grant("r")
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_prefault_takes_the_pages_at_once() -> None:
    for prefault, blocks in ((False, 0), (True, 2048)):
        with Segment.create("s", "1M", prefault=prefault) as segment:
            assert os.fstat(segment.grant("r").fds[0]).st_blocks == blocks
