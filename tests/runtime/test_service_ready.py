# SPDX-License-Identifier: Apache-2.0
"""When a service is up: by its own word, by a byte, by an answer, by its log, and never by a stranger's word."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from pathlib import Path

import pytest
from programs import PYTHON, probe, sh
from sandboxes import PREFIX, REAL_PYTHON
from services import heard, living, pid_of, steps
from waiting import SLOW, Line

from supervisor import (
    DEVNULL,
    ExecCheck,
    FdCheck,
    HttpCheck,
    JobSpec,
    LogCheck,
    Sandbox,
    Service,
    ServiceFailed,
    ServiceSpec,
    Supervisor,
    TcpCheck,
)

pytestmark = pytest.mark.usefixtures("holder")


async def test_a_simple_service_is_up_when_its_program_runs() -> None:
    async with Supervisor() as sup, Service(sup, steps("wait")) as service:
        assert service.state == "active"


async def test_a_service_of_type_notify_is_up_when_it_says_so() -> None:
    """Activating until then; its status is kept."""
    with Line() as go:
        spec = steps(f"read:{go._read}", "send:READY=1|STATUS=open for business", "wait", type="notify", pass_fds=[go._read])
        async with Supervisor() as sup:
            service = Service(sup, spec)
            starting = asyncio.create_task(service.start())
            await service.until(lambda: service.replicas[0].job is not None)
            assert service.state == "activating"
            go.release()
            await starting
            assert (service.state, service.replicas[0].status) == ("active", "open for business")
            await service.stop()


async def test_a_child_may_speak_for_the_service_unless_only_the_main_process_may() -> None:
    """notify_access=all and main, said by a child that lives while it is heard."""
    speaking = sh('"$@" send:READY=1 wait & wait', *probe("notify"))
    async with Supervisor() as sup:
        async with Service(sup, ServiceSpec(name="all", exec_start=speaking, type="notify", timeout_stop_sec=5)) as service:
            assert service.state == "active"
        spec = ServiceSpec(
            name="main", exec_start=speaking, type="notify", notify_access="main", timeout_start_sec=SLOW, timeout_stop_sec=5
        )
        with pytest.raises(ServiceFailed) as caught:
            await Service(sup, spec).start()
        assert caught.value.result == "timeout"


async def test_a_stranger_cannot_speak_for_the_service(caplog: pytest.LogCaptureFixture) -> None:
    """Another process, and we ourselves, know the address and say READY=1; the service stays activating, the log names who spoke."""
    with Line() as line, Line() as go:
        script = 'echo "$NOTIFY_SOCKET" >"/proc/self/fd/$1"; read -r word <"/proc/self/fd/$2"; shift 2; exec "$@" send:READY=1 wait'
        job = JobSpec(argv=sh(script, line.end, go._read, *probe("notify")), pass_fds=(line.end, go._read))
        async with Supervisor() as sup:
            service = Service(sup, ServiceSpec(name="web", exec_start=job, type="notify"))
            starting = asyncio.create_task(service.start())
            address = await heard(line)
            spoof = probe("notify", "send:READY=1|STATUS=spoofed|WATCHDOG=trigger", "wait")
            stranger = await asyncio.create_subprocess_exec(*spoof, env={"NOTIFY_SOCKET": address})
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                ours.sendto(b"READY=1", "\0" + address[1:])
            for pid in (stranger.pid, os.getpid()):
                while not any(f"process {pid}," in record.getMessage() for record in caplog.records):
                    await asyncio.sleep(0.01)
            stranger.kill()
            await stranger.wait()
            assert (service.state, service.replicas[0].status) == ("activating", "")
            os.write(go.end, b"go\n")
            await starting
            assert service.state == "active"
            await service.stop()


async def test_descriptors_that_a_service_sends_are_closed_and_fdstore_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of its stays with us (see nothing_is_left), and it is told so."""
    async with Supervisor() as sup, Service(sup, steps("fdstore", "send:READY=1|MAINPID=1", "wait", type="notify")) as service:
        assert service.state == "active"
        assert pid_of(service) > 1
        messages = [record.getMessage() for record in caplog.records]
        assert "web: FDSTORE in a notification is not followed" in messages
        assert "web: MAINPID in a notification is not followed" in messages


async def test_a_barrier_is_let_go_once_everything_before_it_was_heard() -> None:
    """sd_notify_barrier(3): the reader of the pipe sees its end, and by then the service is up."""
    code = (
        "import array, os, socket\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect('\\0' + os.environ['NOTIFY_SOCKET'][1:])\n"
        "s.send(b'READY=1'); r, w = os.pipe()\n"
        "s.sendmsg([b'BARRIER=1'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [w]))]); os.close(w)\n"
        "os.read(r, 1); s.send(b'STATUS=passed'); import signal; signal.pause()"
    )
    async with Supervisor() as sup:
        spec = ServiceSpec(name="web", exec_start=[*PYTHON, "-c", code], type="notify")
        async with Service(sup, spec) as service:
            await service.until(lambda: service.replicas[0].status == "passed")


@pytest.mark.requires("systemd_notify")
async def test_systemds_own_client_is_understood() -> None:
    """systemd-notify --ready from a shell script."""
    async with Supervisor() as sup:
        spec = ServiceSpec(name="web", exec_start=sh("systemd-notify --ready --status=hello; exec sleep 60"), type="notify")
        async with Service(sup, spec) as service:
            assert service.replicas[0].status == "hello"


async def test_a_service_that_is_not_ready_in_time_has_failed() -> None:
    """timeout_start_sec; its tree is gone."""
    async with Supervisor() as sup:
        service = Service(sup, steps("wait", type="notify", timeout_start_sec=0.2))
        with pytest.raises(ServiceFailed) as caught:
            await service.start()
        assert caught.value.result == "timeout"
        assert (service.state, living(sup)) == ("failed", [])


async def test_a_service_may_ask_for_more_time() -> None:
    """EXTEND_TIMEOUT_USEC=20 s against 0.5 s."""
    spec = steps("send:EXTEND_TIMEOUT_USEC=20000000", "sleep:1", "send:READY=1", "wait", type="notify", timeout_start_sec=0.7 * SLOW)
    if SLOW > 1:
        pytest.skip("an emulated machine needs most of the time for the interpreter")
    async with Supervisor() as sup, Service(sup, spec) as service:
        assert service.state == "active"


async def test_a_service_that_ends_before_it_is_ready_broke_its_promise() -> None:
    async with Supervisor() as sup:
        service = Service(sup, steps("exit:0", type="notify"))
        with pytest.raises(ServiceFailed) as caught:
            await service.start()
        assert caught.value.result == "protocol"


async def test_our_own_notification_socket_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """We may be a service of systemd's ourselves: ours must not reach for its socket, its watchdog or its sockets."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS"):
        monkeypatch.setenv(name, "/not/ours")
    with Line() as line:
        job = JobSpec(argv=sh(f"env >/proc/self/fd/{line.end}; exec sleep 60"), pass_fds=(line.end,))
        async with Supervisor() as sup, Service(sup, ServiceSpec(name="web", exec_start=job)):
            seen = [await heard(line)]
            while not seen[-1].startswith("PWD"):
                seen.append(await heard(line))
    assert not [text for text in seen if "/not/ours" in text]


async def test_a_byte_on_a_descriptor_says_ready() -> None:
    """READY_FD, as s6 has it; closing it without a byte is a broken promise."""
    async with Supervisor() as sup:
        good = sh('echo >"/proc/self/fd/$READY_FD"; exec sleep 60')
        async with Service(sup, ServiceSpec(name="web", exec_start=good, ready=FdCheck())) as service:
            assert service.state == "active"
        bad = Service(
            sup,
            ServiceSpec(
                name="web",
                exec_start=[*PYTHON, "-c", "import os, time; os.close(int(os.environ['READY_FD'])); time.sleep(60)"],
                ready=FdCheck(),
            ),
        )
        with pytest.raises(ServiceFailed) as caught:
            await bad.start()
        assert caught.value.result == "protocol"


async def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def listening(kind: str, port: int, delay: float = 0.1) -> list[str]:
    """A server on a known port that begins late."""
    code = (
        "import socket, sys, time\ntime.sleep(float(sys.argv[3]))\n"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[2])))\n"
        "while True:\n"
        "    c, _ = s.accept()\n"
        "    if sys.argv[1] != 'tcp': c.recv(65536); c.sendall(f'HTTP/1.1 {sys.argv[1]} x\\r\\n\\r\\n'.encode())\n"
        "    c.close()"
    )
    return [*PYTHON, "-c", code, kind, str(port), str(delay)]


async def test_an_accepted_connection_says_ready() -> None:
    port = await free_port()
    spec = ServiceSpec(name="web", exec_start=listening("tcp", port), ready=TcpCheck(port=port))
    async with Supervisor() as sup, Service(sup, spec) as service:
        assert service.state == "active"


async def test_only_a_good_answer_says_ready() -> None:
    """200 and 204 do, 301, 404, 503 and no HTTP at all do not."""
    async with Supervisor() as sup:
        for kind, good in (("200", True), ("204", True), ("301", False), ("404", False), ("503", False), ("2000", False), ("tcp", False)):
            port = await free_port()
            spec = ServiceSpec(
                name="web",
                exec_start=listening(kind, port, 0),
                ready=HttpCheck(url=f"http://127.0.0.1:{port}/up"),
                timeout_start_sec=20 if good else 0.4 * SLOW,
            )
            service = Service(sup, spec)
            if good:
                await service.start()
            else:
                with pytest.raises(ServiceFailed):
                    await service.start()
            await service.stop()


async def test_a_command_that_succeeds_says_ready(tmp_path: Path) -> None:
    """And one that hangs or fails does not; its processes go with the attempt."""
    mark = tmp_path / "mark"
    async with Supervisor() as sup:
        made = sh('sleep 0.2; touch "$1"; exec sleep 60', mark)
        async with Service(sup, ServiceSpec(name="web", exec_start=made, ready=ExecCheck(argv=["test", "-e", str(mark)]))) as service:
            assert mark.exists() and service.state == "active"
        hanging = Service(
            sup, ServiceSpec(name="hang", exec_start=["sleep", "60"], ready=ExecCheck(argv=["sleep", "60"]), timeout_start_sec=0.3)
        )
        with pytest.raises(ServiceFailed):
            await hanging.start()
        assert not living(sup)


async def test_a_line_of_the_log_says_ready_and_the_log_stays_whole(tmp_path: Path) -> None:
    """On either stream, in pieces, without holding back a byte: the files have all of it, in order."""
    out, err = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT), os.open(tmp_path / "err", os.O_WRONLY | os.O_CREAT)
    try:
        script = "printf 'starting\\nserver is re' >&2; sleep 0.1; printf 'ady on 80\\n' >&2; seq 1 20000; printf 'no end'; exit 0"
        job = JobSpec(argv=sh(script), stdout=out, stderr=err)
        async with Supervisor() as sup:
            service = Service(sup, ServiceSpec(name="web", exec_start=job, ready=LogCheck(pattern=r"ready on \d+")))
            await service.start()
            assert service.replicas[0].was_up
            await service.wait()
    finally:
        os.close(out)
        os.close(err)
    assert (tmp_path / "err").read_text() == "starting\nserver is ready on 80\n"
    assert (tmp_path / "out").read_text() == "".join(f"{n}\n" for n in range(1, 20001)) + "no end"


async def test_a_log_that_never_says_it_is_a_timeout_and_output_may_be_dropped() -> None:
    job = JobSpec(argv=sh("yes | head -c 1000000; exec sleep 60"), stdout=DEVNULL, stderr=DEVNULL)
    async with Supervisor() as sup:
        service = Service(sup, ServiceSpec(name="web", exec_start=job, ready=LogCheck(pattern="ready"), timeout_start_sec=0.5))
        with pytest.raises(ServiceFailed) as caught:
            await service.start()
        assert caught.value.result == "timeout"


async def test_a_log_that_nobody_reads_holds_up_the_service_and_not_the_supervisor() -> None:
    """Its output goes into a full pipe; the loop turns on, and the stop is obeyed."""
    read_end, write_end = os.pipe()
    try:
        job = JobSpec(argv=sh("echo ready; exec yes"), stdout=write_end, stderr=DEVNULL)
        async with Supervisor() as sup:
            service = Service(sup, ServiceSpec(name="web", exec_start=job, ready=LogCheck(pattern="ready")))
            await service.start()
            while select.select([], [write_end], [], 0)[1]:  # until nothing more goes into the pipe
                await asyncio.sleep(0.01)
            assert (await sup.run(["true"])).ok
            began = time.monotonic()
            await service.stop()
            assert time.monotonic() - began < 5 * SLOW
        assert os.read(read_end, 8) == b"ready\ny\n"
    finally:
        os.close(read_end)
        os.close(write_end)


@pytest.mark.requires("mount")
@pytest.mark.parametrize("level", ["basic", "strict"])
async def test_a_service_in_a_sandbox_is_heard_as_well(level: str) -> None:
    """Its own network, /tmp and process numbers; the kernel still says that it was the one that spoke. Its environment stays clean."""
    code = (
        "import os, signal, socket\nnotify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\nnotify.connect(os.environ['NOTIFY_SOCKET'])\n"
        "notify.send(b'READY=1\\nSTATUS=%d %s' % (os.getpid(), os.environ.get('RINGFENCE_TEST_SECRET', 'clean').encode()))\nsignal.pause()"
    )
    sandbox = Sandbox(level=level, bind=[] if PREFIX.startswith("/usr") else [PREFIX])
    job = JobSpec(argv=[REAL_PYTHON, "-I", "-S", "-c", code], sandbox=sandbox)
    os.environ["RINGFENCE_TEST_SECRET"] = "leaked"
    try:
        async with (
            Supervisor() as sup,
            Service(sup, ServiceSpec(name="web", exec_start=job, type="notify", timeout_start_sec=20)) as service,
        ):
            pid, _, word = service.replicas[0].status.partition(" ")
            assert word == "clean"
            assert (int(pid) == pid_of(service)) == (level == "basic")
    finally:
        del os.environ["RINGFENCE_TEST_SECRET"]
