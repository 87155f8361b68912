"""The server as processes: setting up before listening, signals, and workers that share a port.

Workers are spawned, never forked, because the engine has threads; each loads the component from the compile cache. A
worker and its supervisor hold the ends of a pipe: the worker says that it is ready, the supervisor that it has to stop,
and each notices when the other is gone. Signals are the supervisor's business, because a terminal or a service manager
may send them to all processes at once: the first lets requests finish, the second does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import multiprocessing
import multiprocessing.process
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from wasi_http.bindings import ProxyPre
from wasi_http.component import Component, Linker
from wasi_http.engine import Engine, EngineConfig, Trap
from wasi_http.linking import add_to_linker_async
from wasi_http.server.config import ServerConfig
from wasi_http.server.handler import Handler, ServerState
from wasi_http.server.log import Log, LogStream
from wasi_http.server.server import Worker, bind, listen
from wasi_http.wasi.context import WasiCtx

__all__ = ["ServeError", "Setup", "run"]

_SHUTTING_DOWN: Final = "Shutting down, interrupt again to quit sooner..."

# What supervisors say to workers. A pipe that is closed says the first.
_STOP: Final = b"stop"
_ABORT: Final = b"abort"

# A worker that ends sooner, in seconds, is replaced only after that time: whatever ailed it may ail the next one.
_SETTLED: Final = 1.0


class ServeError(Exception):
    """The server cannot start; the text says why."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What to serve, where, and how."""

    path: str
    address: tuple[str, int]
    workers: int
    config: ServerConfig
    cache: bool
    shutdown_address: tuple[str, int] | None = None
    trusted: bool = False


def run(setup: Setup, progress: Callable[[int, int], None] | None = None) -> None:
    """Serves until SIGINT, SIGTERM or a connection to the shutdown address.

    Everything that can be wrong with the setup is raised before listening: OSError for an unreadable file,
    `InvalidComponent`, `LinkError`, and `ServeError` for an address that cannot be bound.
    """
    log = Log.standard()
    try:
        _run(setup, progress, log)
    finally:
        log.drain()
        _forget_unread()


def _run(setup: Setup, progress: Callable[[int, int], None] | None, log: Log) -> None:
    handler: Handler | None = _load(setup, progress, log)
    host, port = setup.address
    shared = setup.workers > 1
    with contextlib.ExitStack() as sockets:
        door = None
        if setup.shutdown_address is not None:
            with _bad_address(*setup.shutdown_address):
                door = sockets.enter_context(listen(*setup.shutdown_address, 1))
        with _bad_address(host, port):
            if shared and port:
                # Those who share a port do not notice that somebody else does, too.
                bind(host, port).close()
            listener = sockets.enter_context(bind(host, port, reuse_port=shared))
            if not shared:
                listener.listen(setup.config.backlog)
        if door is not None:
            log.line(f"Listening for shutdown on tcp://{_name(door)}/")
        url = f"http://{_name(listener)}/"
        if not shared:
            assert handler is not None
            _run_loop(_serve(handler, listener, lambda: log.line(f"Serving HTTP on {url}"), None, door), log)
            return
        # The workers load their own; here it was to see whether it can be loaded.
        handler = None
        # The socket keeps the port, but is not listened to: what arrived here would never be answered.
        with contextlib.redirect_stderr(LogStream(log)), asyncio.Runner() as runner:
            runner.run(_supervise(setup, listener.getsockname()[:2], url, door, log))


@contextlib.contextmanager
def _bad_address(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise ServeError(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from None


def _name(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _watch(door: socket.socket | None, shut_down: Callable[[], None]) -> None:
    """Calls ``shut_down`` when a client connects; there is no second time."""
    if door is None:
        return
    loop = asyncio.get_running_loop()

    def knock(door: socket.socket) -> None:
        try:
            client, _ = door.accept()
        except OSError:
            return  # it has gone again
        client.close()
        loop.remove_reader(door.fileno())
        door.close()
        shut_down()

    loop.add_reader(door.fileno(), knock, door)


def _forget_unread() -> None:
    """Has the process end well although nobody takes what it still has to say."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            # The interpreter would try again at its end, and take it for a failure.
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def _load(
    setup: Setup, progress: Callable[[int, int], None] | None, log: Log, worker: int | None = None
) -> Handler:
    # A guest of a request that is done may still be at work, so a few more than requests.
    instances = setup.config.max_concurrent_requests + 16
    if worker is not None:
        logging.getLogger("wasi_http.engine").disabled = True  # the supervisor has said it
    engine = Engine(EngineConfig(max_instances=instances, cache=setup.cache, interruptible=not setup.trusted))
    linker = Linker(engine)
    add_to_linker_async(linker)
    linker.suggest("", "this server has WASI 0.2 and wasi:http, and nothing else")
    component = Component.from_file(engine, setup.path, progress=progress)
    handler = Handler(engine, ProxyPre(linker.instantiate_pre(component)), setup.config, worker, log)
    if not engine.guarded and worker is None:
        _try(handler)
    return handler


def _try(handler: Handler) -> None:
    """Makes an instance, where address space is so short that there may be none."""
    try:
        store, _ = handler.instantiate(ServerState(handler, WasiCtx()))
    except (Trap, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise ServeError(f"the limit of address space (ulimit -v) leaves no room for an instance: {reason}") from None
    store.close()


def _run_loop(main: Coroutine[Any, Any, None], log: Log) -> None:
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    # A request leaves no cycles behind, so there is little to find.
    gc.set_threshold(20_000, 20, 50)
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop
    except ImportError:
        pass
    else:
        factory = uvloop.new_event_loop
    with contextlib.redirect_stderr(LogStream(log)), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


async def _serve(
    handler: Handler,
    listener: socket.socket,
    ready: Callable[[], None],
    supervisor: Connection | None,
    door: socket.socket | None = None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    worker = Worker(handler)

    def on_signal() -> None:
        if supervisor is None:
            if stop.is_set():
                worker.abort()
            else:
                handler.log(_SHUTTING_DOWN)
        stop.set()

    def on_door() -> None:
        if not stop.is_set():
            on_signal()

    def on_supervisor() -> None:
        assert supervisor is not None
        try:
            message = supervisor.recv_bytes()
        except (EOFError, OSError):
            loop.remove_reader(supervisor.fileno())
            message = _STOP
        stop.set()
        if message == _ABORT:
            worker.abort()

    loop.add_signal_handler(signal.SIGTERM, on_signal)
    _watch(door, on_door)
    if supervisor is None:
        loop.add_signal_handler(signal.SIGINT, on_signal)
    else:
        loop.add_reader(supervisor.fileno(), on_supervisor)
    loop.call_soon(ready)
    await worker.serve(listener, stop)


# Workers and their supervisor


def _work(setup: Setup, address: tuple[str, int], supervisor: Connection, number: int) -> None:
    """A worker process; no other of its supervisor has its number."""
    # A terminal sends it to the whole group; the supervisor will tell when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = Log.standard()
    handler = _load(setup, None, log, number)
    listener = listen(address[0], address[1], setup.config.backlog, reuse_port=True)
    _run_loop(_serve(handler, listener, lambda: supervisor.send_bytes(b"ready"), supervisor), log)
    log.drain()


async def _supervise(
    setup: Setup, address: tuple[str, int], url: str, door: socket.socket | None, log: Log
) -> None:
    await _Supervisor(setup, address, log).run(url, door)


class _Supervisor:
    """Runs workers, replaces those that die, and stops them all at the end."""

    def __init__(self, setup: Setup, address: tuple[str, int], log: Log) -> None:
        self._setup = setup
        self._log = log
        self._address = address
        self._context = multiprocessing.get_context("spawn")
        self._loop = asyncio.get_running_loop()
        self._workers: dict[Connection, multiprocessing.process.BaseProcess] = {}
        self._numbers = itertools.count(1)
        self._ready = 0
        self._failed = False
        self._interrupts = 0
        self._changed = asyncio.Event()

    async def run(self, url: str, door: socket.socket | None = None) -> None:
        """Serves until SIGINT, SIGTERM or a knock at the door. Raises ServeError when a worker cannot start."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._interrupt)
        _watch(door, self._shut_down)
        for _ in range(self._setup.workers):
            self._spawn()
        while not self._stopping and self._ready < self._setup.workers:
            await self._change()
        if not self._stopping:
            self._log.line(f"Serving HTTP on {url}")
        while not self._stopping:
            await self._change()
        if self._interrupts == 1:
            self._log.line(_SHUTTING_DOWN)
        self._tell(_STOP)
        try:
            async with asyncio.timeout(self._setup.config.shutdown_timeout + 5):
                while self._workers:
                    await self._change()
        except TimeoutError:
            for worker in self._workers.values():
                worker.kill()
                worker.join()
        if self._failed:
            raise ServeError("a worker could not start")

    @property
    def _stopping(self) -> bool:
        return self._failed or self._interrupts > 0

    async def _change(self) -> None:
        """Waits for something to happen."""
        self._changed.clear()
        await self._changed.wait()

    def _shut_down(self) -> None:
        if not self._stopping:
            self._interrupt()

    def _interrupt(self) -> None:
        self._interrupts += 1
        self._changed.set()
        if self._interrupts > 1:
            self._tell(_ABORT)

    def _tell(self, message: bytes) -> None:
        for connection in self._workers:
            with contextlib.suppress(OSError):
                connection.send_bytes(message)

    def _spawn(self) -> None:
        if self._stopping:
            return
        mine, theirs = self._context.Pipe()
        worker = self._context.Process(target=_work, args=(self._setup, self._address, theirs, next(self._numbers)))
        worker.start()
        theirs.close()
        self._workers[mine] = worker
        self._loop.add_reader(mine.fileno(), self._hear, mine, self._loop.time())

    def _hear(self, connection: Connection, born: float) -> None:
        """A worker is ready, or has ended."""
        self._changed.set()
        try:
            connection.recv_bytes()
        except (EOFError, OSError):
            self._loop.remove_reader(connection.fileno())
            connection.close()
            self._bury(self._workers.pop(connection), born)
        else:
            self._ready += 1

    def _bury(self, worker: multiprocessing.process.BaseProcess, born: float) -> None:
        worker.join()
        if self._stopping:
            return
        if self._ready < self._setup.workers:
            self._failed = True
            return
        self._log.line(f"error: a worker ended with code {worker.exitcode} and is replaced")
        settled = self._loop.time() - born > _SETTLED
        self._loop.call_later(0 if settled else _SETTLED, self._spawn)
