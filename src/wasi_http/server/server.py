"""The server of one process: a listening socket, its connections, and how they end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from typing import Final

from wasi_http.server.connection import Connection
from wasi_http.server.exchange import Exchange
from wasi_http.server.handler import Handler
from wasi_http.server.instances import Instances
from wasi_http.wire.date import DateCache

__all__ = ["Worker"]

# When to try again, in seconds, after a connection could not be accepted.
_RETRY: Final = 0.5

# How many connections are accepted before those that are there get their turn.
_ACCEPT_BATCH: Final = 32


class Worker:
    """Serves a handler on a socket until it is stopped.

    ``now`` and ``date`` are refreshed at least once a second: exact enough for timeouts, and cheap for every request.
    ``stopping`` says that connections end with the request that they are at.
    """

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.loop = asyncio.get_running_loop()
        self.instances = Instances(handler, self.loop)
        self.connections: set[Connection] = set()
        self.active: set[Exchange] = set()
        self.stopping = False
        # A dict serves as a queue from whose middle those can go whose clients do.
        self._waiting: dict[Exchange, None] = {}
        self._quiet = asyncio.Event()
        self._listeners: Sequence[socket.socket] = ()
        self._accepting = False
        self._opening: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._dates = DateCache()
        self.now = self.loop.time()
        self.date = self._dates.value(time.time())

    async def serve(self, listeners: Sequence[socket.socket], stop: asyncio.Event) -> None:
        """Accepts connections until ``stop`` is set, then lets requests finish. Closes the listeners."""
        self._listeners = listeners
        ticker = self.loop.create_task(self._tick())
        self._update_accepting()
        try:
            await stop.wait()
        finally:
            try:
                await self._shut_down(listeners)
            finally:
                ticker.cancel()
                self.instances.close()

    def abort(self) -> None:
        """Ends all that is under way, at once; `serve` returns soon after."""
        for exchange in tuple(self.active):
            exchange.cancel()
        for connection in tuple(self.connections):
            connection.abort()

    # Connections

    def _has_room(self) -> bool:
        return len(self.connections) + len(self._opening) < self.handler.config.max_concurrent_connections

    def _update_accepting(self) -> None:
        """Listens for connections as long as there may be more of them."""
        if not self._listeners:
            return
        if not self._has_room():
            self._pause_accepting()
        elif not self._accepting and self._retry is None:
            self._accepting = True
            for listener in self._listeners:
                self.loop.add_reader(listener.fileno(), self._accept, listener)

    def _pause_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self.loop.remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPT_BATCH):
            if not self._has_room():
                break
            try:
                client, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break  # that was all, or another process was quicker, or the client is gone already
            except OSError as error:
                # Out of descriptors, most likely. Those who have a connection are served, and this is tried again.
                self.handler.log(f"error: cannot accept a connection: {error}")
                self._pause_accepting()
                self._retry = self.loop.call_later(_RETRY, self._accept_again)
                return
            self._opening.add(self.loop.create_task(self._open(client)))
        self._update_accepting()

    def _accept_again(self) -> None:
        self._retry = None
        self._update_accepting()

    async def _open(self, client: socket.socket) -> None:
        try:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self.loop.connect_accepted_socket(lambda: Connection(self), client)
        except OSError:
            client.close()
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._opening.discard(task)
            self._update_accepting()
            self._quiet.set()

    def connected(self, connection: Connection) -> None:
        self.connections.add(connection)
        if self.stopping:
            connection.shut_down()

    def disconnected(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._update_accepting()
        self._quiet.set()

    async def _tick(self) -> None:
        config = self.handler.config
        shortest = min(config.header_timeout, config.idle_timeout, config.linger_timeout)
        period = min(1.0, max(shortest / 4, 0.02))
        while True:
            await asyncio.sleep(period)
            self.now = self.loop.time()
            self.date = self._dates.value(time.time())
            for connection in tuple(self.connections):
                connection.check(self.now)

    # Requests

    def admit(self, exchange: Exchange) -> None:
        """Starts an exchange, or lets it wait for its turn."""
        if len(self.active) >= self.handler.config.max_concurrent_requests:
            self._waiting[exchange] = None
            return
        self.active.add(exchange)
        exchange.start()

    def withdraw(self, exchange: Exchange) -> None:
        """An exchange does not wait for its turn any more."""
        self._waiting.pop(exchange, None)

    def dismiss(self, exchange: Exchange) -> None:
        """An exchange's guest has finished."""
        self.active.discard(exchange)
        if self._waiting:
            self.loop.call_soon(self._start_waiting)
        if not self.active:
            self._quiet.set()

    def _start_waiting(self) -> None:
        while self._waiting and len(self.active) < self.handler.config.max_concurrent_requests:
            exchange = next(iter(self._waiting))
            del self._waiting[exchange]
            self.admit(exchange)

    # The end

    async def _shut_down(self, listeners: Sequence[socket.socket]) -> None:
        self.stopping = True
        self._pause_accepting()
        self._listeners = ()
        if self._retry is not None:
            self._retry.cancel()
        for listener in listeners:
            listener.close()
        for connection in tuple(self.connections):
            connection.shut_down()
        try:
            async with asyncio.timeout(self.handler.config.shutdown_timeout):
                await self._until_quiet()
        except TimeoutError:
            self.handler.log(f"error: {len(self.active)} requests did not finish in time and are cancelled")
        finally:
            self.abort()
        await self._until_quiet()
        await self.handler.client.close()

    async def _until_quiet(self) -> None:
        while self.connections or self.active or self._opening:
            self._quiet.clear()
            await self._quiet.wait()
