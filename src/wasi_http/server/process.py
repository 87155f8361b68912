"""The server as a process: what is set up before it listens, how it ends, and what its workers are."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import os
import resource
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final

from wasi_http.engine import EngineConfig, Trap
from wasi_http.engine.cache import ModuleCache
from wasi_http.server.access import AccessLog
from wasi_http.server.config import ServerConfig
from wasi_http.server.guests import Guests
from wasi_http.server.listeners import Address, authority, bind, listen, resolve
from wasi_http.server.loading import Progress, load
from wasi_http.server.log import Log, LogStream, cut
from wasi_http.server.signals import end_early, handling, ignore
from wasi_http.server.supervisor import ABORT, BLOCKED, READY, SHUTTING_DOWN, STOP, Supervisor, WorkerFailed
from wasi_http.server.worker import Worker
from wasi_http.service.admission import SPARE_INSTANCES

__all__ = ["ServeError", "Setup", "run"]

# How much of the reason why a worker cannot start is told, in characters.
_MAX_REASON: Final = 1000


# How many files the server opens before it serves, and for each worker.
_DESCRIPTORS: Final = 16
_WORKER_DESCRIPTORS: Final = 4


# A request leaves no cycles behind, so there is little to find; but a collection looks at all that lives, some 70
# objects for each request, and everything waits for it. So the first two generations are kept small, and the last is
# collected when few requests are there, or after some 30 million objects.
_COLLECTIONS: Final = (10_000, 2, 1000)
_COLLECT_EVERY: Final = 60.0
_FEW_REQUESTS: Final = 500


# What to do about an address that cannot be had, by the error number.
_CURES: Final[dict[int | None, str]] = {
    errno.EADDRINUSE: "; stop what listens there, or write {} HOST:PORT with another port, 0 for a free one",
    errno.EACCES: "; write {} HOST:PORT with a port from 1024 on, those below need privileges",
    errno.EADDRNOTAVAIL: "; the machine does not have this address, write {} :PORT for all that it has",
}


# M_TRIM_THRESHOLD, the free memory at the end of the heap beyond which it is given back, and M_MMAP_THRESHOLD, the size
# from which on memory is mapped by itself.
_HEAP: Final = {-1: 32 << 20, -3: 4 << 20}


class ServeError(Exception):
    """The server cannot start; the text says why."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What to serve, where, and how. The engine's ``max_instances`` follows from the requests at once."""

    path: str
    address: tuple[str, int]
    workers: int
    config: ServerConfig
    engine: EngineConfig
    shutdown_address: tuple[str, int] | None = None
    access_log: str | None = None


def run(setup: Setup, progress: Progress | None = None) -> None:
    """Serves until SIGINT, SIGTERM, SIGHUP or a connection to the shutdown address.

    Everything that can be wrong with the setup is raised before listening: OSError for an unreadable file,
    `InvalidComponent`, `CompileError`, `LinkError`, and `ServeError` for an address that cannot be bound. Signals
    raise SystemExit then, with 128 and their number.
    """
    end_early()
    log = Log.standard()
    try:
        _prepare_descriptors(setup)
        _run(setup, progress, log)
    finally:
        log.drain()
        _forget_unread()


def _prepare_descriptors(setup: Setup) -> None:
    """Raises the limit of open files to what the process may have, and sees whether there are enough to begin with."""
    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = _DESCRIPTORS + (setup.workers * _WORKER_DESCRIPTORS if setup.workers > 1 else 0)
    with contextlib.ExitStack() as stack:
        try:
            for _ in range(needed):
                stack.enter_context(open(os.devnull, "rb", buffering=0))
        except OSError as error:
            raise ServeError(f"{error.strerror}: the server needs {needed} beside those that are open") from None


def _run(setup: Setup, progress: Progress | None, log: Log) -> None:
    guests, access, cache = _load(setup, progress, log)
    shared = setup.workers > 1
    with _failures(), contextlib.ExitStack() as stack:
        doors: list[socket.socket] = []
        if setup.shutdown_address is not None:
            with _bad_address(*setup.shutdown_address, "--shutdown-addr"):
                doors = listen(*setup.shutdown_address, 1)
            for door in doors:
                stack.enter_context(door)
        with _bad_address(*setup.address, "--addr"):
            addresses = resolve(*setup.address)
            if shared and setup.address[1]:
                # Sockets that share a port do not notice that other programs share it, too.
                for probe in bind(addresses):
                    probe.close()
            listeners = bind(addresses, reuse_port=shared)
            for listener in listeners:
                stack.enter_context(listener)
            if not shared:
                for listener in listeners:
                    listener.listen(setup.config.backlog)
        for door in doors:
            log.line(f"Listening for shutdown on tcp://{authority(door)}/")
        urls = [f"http://{authority(listener)}/" for listener in listeners]

        def ready() -> None:
            for url in urls:
                log.line(f"Serving HTTP on {url}")

        if not shared:
            _run_loop(partial(_serve, guests, access, listeners, ready, None, doors), log)
            return
        if not cache.complete:
            setup = _lend(setup, cache, stack)
        # The workers load their own; here it was to see whether it can be loaded, and to compile it once.
        del guests, access, cache
        # The sockets keep the ports, but are not listened to: what arrived here would never be answered.
        bound = [(int(listener.family), listener.getsockname()) for listener in listeners]
        with contextlib.redirect_stderr(LogStream(log)), asyncio.Runner() as runner:
            runner.run(_supervise(_anchored(setup), bound, ready, doors, log))


async def _supervise(
    setup: Setup, addresses: list[Address], ready: Callable[[], None], doors: list[socket.socket], log: Log
) -> None:
    supervisor = Supervisor(setup.workers, _work, (setup, addresses), log, setup.config.shutdown_timeout)
    _watch(doors, supervisor.shut_down)
    try:
        await supervisor.run(ready)
    except WorkerFailed as failed:
        raise ServeError(str(failed)) from None


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """What fails now is not the file."""
    try:
        yield
    except OSError as error:
        raise ServeError(f"cannot serve: {error.strerror or error}") from None


@contextlib.contextmanager
def _bad_address(host: str, port: int, option: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:
        where = getattr(error, "filename", None) or f"{host}:{port}"
        cure = _CURES.get(getattr(error, "errno", None), "").format(option)
        raise ServeError(f"cannot listen on {where}: {getattr(error, 'strerror', None) or error}{cure}") from None


def _watch(doors: Iterable[socket.socket], shut_down: Callable[[], None]) -> None:
    """Calls ``shut_down`` when a client connects; there is no second time."""
    loop = asyncio.get_running_loop()
    waiting = set(doors)

    def knock(door: socket.socket) -> None:
        try:
            client, _ = door.accept()
        except OSError:
            return  # it has gone again
        client.close()
        while waiting:
            other = waiting.pop()
            loop.remove_reader(other.fileno())
            other.close()
        shut_down()

    for door in waiting:
        loop.add_reader(door.fileno(), knock, door)


def _forget_unread() -> None:
    """Exits cleanly even if the other end of stdout or stderr is closed."""
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
    setup: Setup, progress: Progress | None, log: Log, worker: int | None = None
) -> tuple[Guests, AccessLog | None, ModuleCache]:
    config = replace(setup.engine, max_instances=setup.config.max_concurrent_requests + SPARE_INSTANCES)
    if worker is not None:
        logging.getLogger("wasi_http.engine").disabled = True  # the supervisor has said it
    component, pre = load(config, setup.path, log.line if worker is None else None, progress)
    guests = Guests(component.engine, pre, setup.config, worker, log)
    access = None
    if setup.access_log is not None:
        try:
            access = AccessLog(log.file(setup.access_log), guests.name)
        except OSError as error:
            raise ServeError(f"cannot write the access log: {setup.access_log}: {error.strerror}") from None
    if not component.engine.guarded and worker is None:
        _try(guests)
    return guests, access, component.cache


def _try(guests: Guests) -> None:
    """Makes an instance, where address space is so short that there may be none."""
    try:
        guest = guests.new_guest(0)
    except (Trap, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise ServeError(f"the limit of address space (ulimit -v) leaves no room for an instance: {reason}") from None
    guest.store.close()


def _lend(setup: Setup, cache: ModuleCache, until: contextlib.ExitStack) -> Setup:
    """Has workers load what is compiled, although the cache does not keep it."""
    try:
        directory = until.enter_context(tempfile.TemporaryDirectory(prefix="wasi-http-", ignore_cleanup_errors=True))
        cache.copy_to(directory)
    except OSError:
        return setup  # each compiles it again
    return replace(setup, engine=replace(setup.engine, cache=True, cache_directory=directory))


def _keep_heap() -> None:
    """Has the C library keep memory that is freed for the next body; elsewhere than in glibc it does nothing.

    Else, with an unlucky layout of the heap, each buffer of a body costs some 60 page faults, more than the rest of it.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, size in _HEAP.items():
            mallopt(option, size)


def _run_loop(main: Callable[[], Coroutine[Any, Any, None]], log: Log) -> None:
    _keep_heap()
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop
    except ImportError:
        pass
    else:
        factory = uvloop.new_event_loop
    with contextlib.redirect_stderr(LogStream(log)), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def _serve(
    guests: Guests,
    access: AccessLog | None,
    listeners: list[socket.socket],
    ready: Callable[[], None],
    supervisor: Connection | None,
    doors: Iterable[socket.socket] = (),
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    worker = Worker(guests, access)

    def on_signal() -> None:
        if supervisor is None:
            if stop.is_set():
                worker.abort()
            else:
                guests.log(SHUTTING_DOWN)
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
            message = STOP
        stop.set()
        if message == ABORT:
            worker.abort()

    _watch(doors, on_door)
    if supervisor is not None:
        loop.add_reader(supervisor.fileno(), on_supervisor)
    loop.call_soon(ready)
    collector = loop.create_task(_collect_when_quiet(worker))
    try:
        with handling(on_signal):
            await worker.serve(listeners, stop)
    finally:
        collector.cancel()


async def _collect_when_quiet(worker: Worker) -> None:
    while True:
        await asyncio.sleep(_COLLECT_EVERY)
        if worker.answers.active + len(worker.connections) < _FEW_REQUESTS:
            gc.collect()


# Workers


def _work(setup: Setup, addresses: list[Address], supervisor: Connection, number: int) -> None:
    """A worker process."""
    ignore(*BLOCKED)
    end_early()
    log = Log.standard()
    with contextlib.ExitStack() as stack:
        try:
            guests, access, _ = _load(setup, None, log, number)
            listeners = bind(addresses, reuse_port=True)
            for listener in listeners:
                stack.enter_context(listener)
                listener.listen(setup.config.backlog)
        except Exception as error:
            supervisor.send_bytes(_described(error).encode("utf-8", "backslashreplace"))
            sys.exit(1)
        _run_loop(partial(_serve, guests, access, listeners, partial(supervisor.send_bytes, READY), supervisor), log)
    log.drain()


def _described(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return cut(f"{type(error).__name__}: {error}", _MAX_REASON)


def _anchored(setup: Setup) -> Setup:
    """The setup with absolute paths: workers may start when the directory of this moment is gone."""
    tls = setup.config.client.tls
    files = {name: getattr(tls, name) for name in ("ca_bundle", "client_cert", "client_key")}
    tls = replace(tls, **{name: os.path.abspath(path) for name, path in files.items() if path is not None})
    client = replace(setup.config.client, tls=tls)
    engine = setup.engine
    if engine.cache_directory is not None:
        engine = replace(engine, cache_directory=os.path.abspath(engine.cache_directory))
    config = replace(setup.config, client=client)
    access_log = setup.access_log
    if access_log not in (None, "-"):
        setup = replace(setup, access_log=os.path.abspath(access_log))
    return replace(setup, path=os.path.abspath(setup.path), config=config, engine=engine)
