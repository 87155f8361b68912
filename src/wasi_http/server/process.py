"""The server as processes: setting up before listening, signals, and workers that share a port.

Workers are spawned, never forked, because the engine has threads; each loads the component from the compile cache.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import multiprocessing.process
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from wasi_http.bindings import ProxyPre
from wasi_http.component import Component, Linker
from wasi_http.engine import Engine, EngineConfig
from wasi_http.linking import add_to_linker_async
from wasi_http.server.config import ServerConfig
from wasi_http.server.handler import Handler
from wasi_http.server.server import Worker, listen

__all__ = ["ServeError", "Setup", "run"]


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


def run(setup: Setup, progress: Callable[[int, int], None] | None = None) -> None:
    """Serves until SIGINT or SIGTERM; everything that can be wrong with the setup is raised before listening.

    Raises OSError for an unreadable file, `InvalidComponent`, `LinkError`, and `ServeError` for an address that cannot
    be bound.
    """
    handler = _load(setup, progress)
    host, port = setup.address
    try:
        listener = listen(host, port, setup.config.backlog, reuse_port=setup.workers > 1)
    except OSError as error:
        raise ServeError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    bound = listener.getsockname()
    name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    if setup.workers > 1:
        _supervise(setup, listener, f"http://{name}:{bound[1]}/")
        return
    print(f"Serving HTTP on http://{name}:{bound[1]}/", file=sys.stderr, flush=True)
    _run_loop(_serve(handler, listener, None))


def _load(setup: Setup, progress: Callable[[int, int], None] | None) -> Handler:
    # A guest of a request that is done may still be at work, so a few more than requests.
    instances = setup.config.max_concurrent_requests + 16
    engine = Engine(EngineConfig(max_instances=instances, cache=setup.cache))
    linker = Linker(engine)
    add_to_linker_async(linker)
    component = Component.from_file(engine, setup.path, progress=progress)
    return Handler(engine, ProxyPre(linker.instantiate_pre(component)), setup.config)


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
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
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


async def _serve(handler: Handler, listener: socket.socket, parent: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            # The second one does not wait for anybody.
            for connection in tuple(worker.connections):
                connection.abort()
        elif parent is None:
            print("Shutting down, interrupt again to quit sooner...", file=sys.stderr, flush=True)
        stop.set()

    worker = Worker(handler)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    if parent is not None:
        threading.Thread(
            target=_follow, args=(loop, stop), daemon=True, name="wasi-http-parent"
        ).start()
    await worker.serve(listener, stop)


def _follow(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Stops a worker whose supervisor has gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        loop.call_soon_threadsafe(stop.set)


def _work(setup: Setup, address: tuple[str, int], ready: Any) -> None:
    """A worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the loop listens to it
    handler = _load(setup, None)
    listener = listen(address[0], address[1], setup.config.backlog, reuse_port=True)
    ready.release()
    _run_loop(_serve(handler, listener, 1))


def _supervise(setup: Setup, listener: socket.socket, url: str) -> None:
    """Runs workers, replaces those that die, and stops them all at the end."""
    context = multiprocessing.get_context("spawn")
    address = listener.getsockname()[:2]
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())

    ready = context.Semaphore(0)
    workers: list[multiprocessing.process.BaseProcess] = []

    def spawn() -> None:
        worker = context.Process(target=_work, args=(setup, address, ready))
        worker.start()
        workers.append(worker)

    for _ in range(setup.workers):
        spawn()
    for _ in range(setup.workers):
        while not ready.acquire(timeout=0.1):
            if stopping.is_set() or any(worker.exitcode not in (None, 0) for worker in workers):
                break
    # Only workers accept: what would arrive at the supervisor's socket would never be answered.
    listener.close()
    if any(worker.exitcode not in (None, 0) for worker in workers):
        stopping.set()
        print("error: a worker could not start", file=sys.stderr, flush=True)
    else:
        print(f"Serving HTTP on {url}", file=sys.stderr, flush=True)
    while not stopping.wait(0.2):
        for worker in tuple(workers):
            if worker.exitcode is not None:
                workers.remove(worker)
                print(f"error: a worker ended with code {worker.exitcode} and is replaced", file=sys.stderr, flush=True)
                spawn()
    for worker in workers:
        if worker.pid is not None and worker.exitcode is None:
            worker.terminate()
    for worker in workers:
        worker.join(setup.config.shutdown_timeout + 5)
        if worker.exitcode is None:
            worker.kill()
            worker.join()
