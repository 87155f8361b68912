"""Worker processes: started, replaced when they die, stopped at the end.

Workers are spawned, never forked, because the engine has threads. A worker and its supervisor hold the ends of a pipe:
the worker says that it is ready or why it is not, the supervisor that it has to stop, and each notices when the other
is gone. Signals are the supervisor's business, because a terminal or a service manager may send them to all processes
at once: the first lets requests finish, the second does not.

What fails while others serve is tried again, for as long as it takes: memory or processes that the machine lacks now it
may have later. Only when not a single worker starts is it a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import multiprocessing.process
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Final

from wasi_http.server.log import Log
from wasi_http.server.signals import handling

__all__ = ["ABORT", "BLOCKED", "READY", "SHUTTING_DOWN", "STOP", "Supervisor", "WorkerFailed"]

SHUTTING_DOWN: Final = "Shutting down, interrupt again to quit sooner..."

# What supervisors say to workers. A pipe that is closed says the first.
STOP: Final = b"stop"
ABORT: Final = b"abort"

# What workers say to supervisors; anything else is why they could not start.
READY: Final = b"ready"

#: What a terminal sends to workers, too. They start with these blocked: the supervisor tells them when to stop.
BLOCKED: Final = (signal.SIGINT, signal.SIGHUP)

# A worker that ends sooner, in seconds, is replaced only after that time: whatever ailed it may ail the next one. Those
# that do not even start are tried again after longer and longer times.
_SETTLED: Final = 1.0
_MAX_DELAY: Final = 30.0

# How long workers have, in seconds, to end after they were told to do so at once, or should have ended.
_GRACE: Final = 5.0


class WorkerFailed(Exception):
    """No worker could start; the text says why."""


@dataclass(eq=False, slots=True)
class _Worker:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    born: float
    ready: bool = False
    reason: str = ""


class Supervisor:
    """Runs ``count`` processes that each call ``work(*arguments, connection, number)``. No two have one number."""

    def __init__(
        self, count: int, work: Callable[..., None], arguments: tuple[Any, ...], log: Log, shutdown_timeout: float
    ) -> None:
        self._count = count
        self._work = work
        self._arguments = arguments
        self._log = log
        self._shutdown_timeout = shutdown_timeout
        self._context = multiprocessing.get_context("spawn")
        self._loop = asyncio.get_running_loop()
        self._workers: set[_Worker] = set()
        self._numbers = itertools.count(1)
        self._announced = False
        self._early: list[str] = []
        self._outcomes = 0
        self._delay = _SETTLED
        self._failure: str | None = None
        self._interrupts = 0
        self._patience: asyncio.Timeout | None = None
        self._changed = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves until a signal or `shut_down`; calls ``ready`` when the workers serve.

        Raises WorkerFailed when not one of them can start.
        """
        with handling(self._interrupt):
            await self._run(ready)

    async def _run(self, ready: Callable[[], None]) -> None:
        for _ in range(self._count):
            self._spawn()
        while not self._stopping and not self._serving:
            await self._change()
        if not self._stopping:
            self._announced = True
            for line in self._early:
                self._log.line(line)
            ready()
        while not self._stopping:
            await self._change()
        await self._stop()
        if self._failure is not None:
            raise WorkerFailed(self._failure)

    def shut_down(self) -> None:
        """As the first signal does; it does not count as the second."""
        if not self._stopping:
            self._interrupt()

    @property
    def _stopping(self) -> bool:
        return self._failure is not None or self._interrupts > 0

    @property
    def _serving(self) -> bool:
        """Whether each has shown whether it starts, and one has."""
        return self._outcomes >= self._count and any(worker.ready for worker in self._workers)

    async def _change(self) -> None:
        """Waits for something to happen."""
        self._changed.clear()
        await self._changed.wait()

    def _interrupt(self) -> None:
        self._interrupts += 1
        self._changed.set()
        if self._interrupts == 1:
            return
        self._tell(ABORT)
        if self._patience is not None:
            self._patience.reschedule(self._loop.time() + (_GRACE if self._interrupts == 2 else 0))

    def _tell(self, message: bytes) -> None:
        for worker in self._workers:
            if worker.ready:
                with contextlib.suppress(OSError):
                    worker.connection.send_bytes(message)
            else:
                # It does not listen yet, and serves nothing.
                worker.process.terminate()

    async def _stop(self) -> None:
        if self._interrupts == 1:
            self._log.line(SHUTTING_DOWN)
        self._tell(STOP)
        try:
            async with asyncio.timeout(self._shutdown_timeout + _GRACE) as self._patience:
                while self._workers:
                    await self._change()
        except TimeoutError:
            for worker in tuple(self._workers):
                worker.process.kill()
                self._on_exit(worker)

    # Start and end of workers

    def _spawn(self) -> None:
        if self._stopping:
            return
        try:
            worker = self._start()
        except (OSError, RuntimeError) as error:
            self._retry(f"a worker cannot be started: {getattr(error, 'strerror', None) or error}", self._backed_off())
            return
        self._workers.add(worker)
        self._loop.add_reader(worker.connection.fileno(), self._on_message, worker)
        self._loop.add_reader(worker.process.sentinel, self._on_exit, worker)

    def _start(self) -> _Worker:
        try:
            os.getcwd()
        except FileNotFoundError:
            # Processes are spawned where their parent is, and this place is gone.
            os.chdir(os.sep)
        mine, theirs = self._context.Pipe()
        with theirs:
            try:
                process = self._context.Process(target=self._work, args=(*self._arguments, theirs, next(self._numbers)))
                # It would unblock them.
                resource_tracker.ensure_running()
                signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
                try:
                    process.start()
                finally:
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
            except BaseException:
                mine.close()
                raise
        return _Worker(process, mine, self._loop.time())

    def _on_message(self, worker: _Worker) -> None:
        """A worker is ready, or cannot start."""
        try:
            message = worker.connection.recv_bytes()
        except (EOFError, OSError):
            self._loop.remove_reader(worker.connection.fileno())
        else:
            self._hear(worker, message)

    def _hear(self, worker: _Worker, message: bytes) -> None:
        if message != READY:
            worker.reason = message.decode("utf-8", "replace")
            return
        worker.ready = True
        self._delay = _SETTLED
        self._outcomes += 1
        self._changed.set()
        if self._stopping:
            self._tell(STOP)

    def _on_exit(self, worker: _Worker) -> None:
        self._changed.set()
        self._loop.remove_reader(worker.process.sentinel)
        self._loop.remove_reader(worker.connection.fileno())
        with contextlib.suppress(EOFError, OSError):
            while worker.connection.poll():
                self._hear(worker, worker.connection.recv_bytes())
        worker.connection.close()
        worker.process.join()
        self._workers.discard(worker)
        if self._stopping:
            return
        if worker.ready:
            settled = self._loop.time() - worker.born > _SETTLED
            ended = f"a worker ended with code {worker.process.exitcode} and is replaced"
            self._retry(ended, 0 if settled else _SETTLED)
        else:
            ended = worker.reason or f"it ended with code {worker.process.exitcode}"
            self._retry(f"a worker could not start: {ended}", self._backed_off())

    def _backed_off(self) -> float:
        delay, self._delay = self._delay, min(self._delay * 2, _MAX_DELAY)
        return delay

    def _retry(self, why: str, delay: float) -> None:
        """Starts another worker later, unless there never was one."""
        self._outcomes += 1
        if not self._announced and not self._workers:
            self._failure = why
            return
        line = f"error: {why}; trying again in {delay:g} s" if delay > _SETTLED else f"error: {why}"
        if self._announced:
            self._log.line(line)
        else:
            # Perhaps this one was the exception, perhaps all fail for one reason, which is then said once.
            self._early.append(line)
        self._loop.call_later(delay, self._spawn)
