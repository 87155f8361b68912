"""The server of one process: a listening socket, its connections, and how they end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque

from wasi_http.server.connection import Connection
from wasi_http.server.exchange import Exchange
from wasi_http.server.handler import Handler
from wasi_http.wire.date import DateCache

__all__ = ["Worker", "listen"]


def listen(host: str, port: int, backlog: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket; raises OSError. With ``reuse_port`` several processes share the port."""
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = infos[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A port whose last connections are not quite gone can be bound again at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class Worker:
    """Serves a handler on a socket until it is stopped.

    ``now`` and ``date`` are refreshed once a second: exact enough for timeouts, and cheap for every request.
    """

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.active: set[Exchange] = set()
        self.stopping = False
        self._waiting: deque[Exchange] = deque()
        self._idle = asyncio.Event()
        self._slots = asyncio.Semaphore(handler.config.max_concurrent_connections)
        self._dates = DateCache()
        self.now = self.loop.time()
        self.date = self._dates.value(time.time())

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Accepts connections until ``stop`` is set, then lets requests finish."""
        ticker = self.loop.create_task(self._tick())
        accepter = self.loop.create_task(self._accept(listener))
        stopped = self.loop.create_task(stop.wait())
        try:
            await asyncio.wait({accepter, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if accepter.done():
                accepter.result()
        finally:
            stopped.cancel()
            accepter.cancel()
            listener.close()
            await self._shut_down()
            ticker.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await self._slots.acquire()
            try:
                client, _ = await self.loop.sock_accept(listener)
            except OSError as error:
                # Out of descriptors, or the client is gone already: others are served, and this is tried again.
                self._slots.release()
                self.handler.log(f"error: cannot accept a connection: {error}")
                await asyncio.sleep(0.1)
                continue
            try:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self.loop.connect_accepted_socket(lambda: Connection(self), client)
            except OSError:
                client.close()
                self._slots.release()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.now = self.loop.time()
            self.date = self._dates.value(time.time())
            for connection in tuple(self.connections):
                connection.check(self.now)

    async def _shut_down(self) -> None:
        self.stopping = True
        for connection in tuple(self.connections):
            connection.shut_down()
        try:
            async with asyncio.timeout(self.handler.config.shutdown_timeout):
                while self.connections or self.active:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            self.handler.log(f"{len(self.active)} requests did not finish in time and are cancelled")
        self._waiting.clear()
        for exchange in tuple(self.active):
            exchange.cancel()
        for connection in tuple(self.connections):
            connection.abort()
        while self.connections or self.active:
            self._idle.clear()
            await self._idle.wait()

    def connected(self, connection: Connection) -> None:
        self.connections.add(connection)
        if self.stopping:
            connection.shut_down()

    def disconnected(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._slots.release()
        self._idle.set()

    def admit(self, exchange: Exchange) -> None:
        """Starts an exchange, or lets it wait for its turn."""
        if len(self.active) >= self.handler.config.max_concurrent_requests:
            self._waiting.append(exchange)
            return
        self.active.add(exchange)
        exchange.start()

    def dismiss(self, exchange: Exchange) -> None:
        """An exchange's guest has finished."""
        self.active.discard(exchange)
        if self._waiting:
            self.loop.call_soon(self._start_waiting)
        if not self.active:
            self._idle.set()

    def _start_waiting(self) -> None:
        while self._waiting and len(self.active) < self.handler.config.max_concurrent_requests:
            exchange = self._waiting.popleft()
            if not exchange.abandoned:
                self.admit(exchange)
