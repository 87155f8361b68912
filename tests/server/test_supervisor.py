"""Workers that do not start, or do not live."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest

from wasi_http.server import supervisor as module
from wasi_http.server.supervisor import READY, STOP, Supervisor, WorkerFailed

from .serving import PATIENCE, Log, until


def work(connection: Connection, number: int) -> None:
    """A worker that serves until it is told to stop."""
    connection.send_bytes(READY)
    while connection.recv_bytes() != STOP:
        pass


def fail(connection: Connection, number: int) -> None:
    """One that cannot start."""
    connection.send_bytes(b"no such thing")


def fail_at_first(connection: Connection, number: int) -> None:
    """The second cannot start, all others can."""
    if number != 2:
        work(connection, number)


def supervise(log: Log, target: Callable[..., None], test: Callable[[Supervisor], Any], count: int = 2) -> None:
    async def main() -> None:
        supervisor = Supervisor(count, target, (), log, 5.0)
        await supervisor.run(lambda: test(supervisor))

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLED", 0.01)


def test_it_says_when_workers_serve() -> None:
    log = Log()
    supervise(log, work, lambda supervisor: supervisor.shut_down())
    assert log.err == f"{module.SHUTTING_DOWN}\n"


def test_not_a_single_worker_starts() -> None:
    log = Log()
    with pytest.raises(WorkerFailed, match="a worker could not start: no such thing"):
        supervise(log, fail, lambda supervisor: pytest.fail("it does not serve"), count=1)
    assert log.err == ""


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENOENT])
def test_not_a_single_process_can_be_spawned(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def spawn(supervisor: Supervisor) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Supervisor, "_start", spawn)
    log = Log()
    with pytest.raises(WorkerFailed) as caught:
        supervise(log, work, lambda supervisor: pytest.fail("it does not serve"))
    assert str(caught.value) == f"a worker cannot be started: {os.strerror(error)}"
    assert "Traceback" not in log.err


def test_one_that_does_not_start_is_tried_again() -> None:
    log = Log()

    def serving(supervisor: Supervisor) -> None:
        assert log.err.startswith("error: a worker could not start: it ended with code 0")
        asyncio.get_running_loop().create_task(check(supervisor)).add_done_callback(lambda task: task.result())

    async def check(supervisor: Supervisor) -> None:
        while sum(worker.ready for worker in supervisor._workers) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        supervisor.shut_down()

    supervise(log, fail_at_first, serving)


def test_what_cannot_be_spawned_now_is_spawned_later(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Supervisor._start
    log = Log()
    delays: list[float] = []

    def spawn(supervisor: Supervisor) -> Any:
        if len(delays) < 6:
            delays.append(supervisor._delay)
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return start(supervisor)

    def serving(supervisor: Supervisor) -> None:
        monkeypatch.setattr(Supervisor, "_start", spawn)
        for worker in tuple(supervisor._workers):
            assert worker.process.pid is not None
            os.kill(worker.process.pid, signal.SIGKILL)
        asyncio.get_running_loop().create_task(check(supervisor)).add_done_callback(lambda task: task.result())

    async def check(supervisor: Supervisor) -> None:
        await until(lambda: len(delays) == 6 and len(supervisor._workers) == 2)
        await until(lambda: all(worker.ready for worker in supervisor._workers))
        assert supervisor._delay == module._SETTLED
        supervisor.shut_down()

    supervise(log, work, serving)
    assert log.err.count("error: a worker ended with code -9 and is replaced") == 2
    assert "error: a worker cannot be started: Resource temporarily unavailable; trying again in " in log.err
    assert delays == [module._SETTLED * 2**count for count in range(6)]


def ignore(connection: Connection, number: int) -> None:
    """A worker that does not stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection.send_bytes(READY)
    while True:
        signal.pause()


def test_a_third_signal_kills() -> None:
    log = Log()

    def serving(supervisor: Supervisor) -> None:
        for _ in range(3):
            asyncio.get_running_loop().call_soon(supervisor._interrupt)

    supervise(log, ignore, serving)
