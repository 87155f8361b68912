"""The server of one process: listening sockets, their connections, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from typing import Final

from wasi_http.http1.date import DateCache
from wasi_http.server.access import AccessLog
from wasi_http.server.connection import Connection
from wasi_http.server.guests import Guests
from wasi_http.server.headers import RequestHeaders
from wasi_http.service.admission import ABORT_TIMEOUT

__all__ = ["Worker"]

# When to try again, in seconds, after a connection could not be accepted.
_RETRY: Final = 0.5

# How long, in seconds, a connection is idle before it is closed in favour of another.
_IDLE: Final = 1.0

# How many connections are accepted before those that are there get their turn.
_ACCEPT_BATCH: Final = 32


class Worker:
    """Serves guests on sockets until it is stopped; ``access`` says what was served, if anything does.

    ``now`` and ``date`` are refreshed at least once a second: exact enough for timeouts, and cheap for every request.
    ``stopping`` says that connections end with the request that they are at.
    """

    def __init__(self, guests: Guests, access: AccessLog | None = None) -> None:
        config = guests.config
        self.answers = guests
        self.config = config
        self.access = access
        self.request_headers = RequestHeaders(config.request_headers) if config.request_headers else None
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.stopping = False
        guests.open()
        # Connections that were idle when they were last looked at, the longest idle last; only when there is no room.
        self._idle: list[Connection] = []
        self._aborted = False
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

    def abort(self) -> None:
        """Ends all that is under way, at once; `serve` returns soon after."""
        self._aborted = True
        self.answers.abort()
        for connection in tuple(self.connections):
            connection.abort()
        self._quiet.set()

    # Connections

    def _has_room(self) -> bool:
        return len(self.connections) + len(self._opening) < self.config.max_concurrent_connections

    def _update_accepting(self) -> None:
        """Listens for connections as long as there may be more of them."""
        if not self._listeners:
            return
        if not self._has_room() and not self._idle:
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
        if not self._has_room():
            self._make_room()
            # Until there is room, or something else to close.
            self._pause_accepting()
            return
        for _ in range(_ACCEPT_BATCH):
            if not self._has_room():
                break
            try:
                client, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break  # that was all, or another process was quicker, or the client is gone already
            except OSError as error:
                # Out of descriptors, most likely. Those who have a connection are served, and this is tried again.
                self.answers.log(f"error: cannot accept a connection: {error}")
                self._pause_accepting()
                self._retry = self.loop.call_later(_RETRY, self._accept_again)
                return
            self._opening.add(self.loop.create_task(self._open(client)))
        self._update_accepting()

    def _make_room(self) -> None:
        """A client has to wait for a connection: closes the one that has been idle for the longest time."""
        while self._idle:
            connection = self._idle.pop()
            if connection.idle:
                connection.close()
                return

    def _accept_again(self) -> None:
        self._retry = None
        self._update_accepting()

    async def _open(self, client: socket.socket) -> None:
        try:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self.loop.connect_accepted_socket(lambda: Connection(self), client)
        except BaseException as error:
            client.close()
            if not isinstance(error, OSError):
                raise
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._opening.discard(task)
            self._update_accepting()
            self._quiet.set()

    def connected(self, connection: Connection) -> None:
        self.connections.add(connection)
        if self._aborted:
            connection.abort()
        elif self.stopping:
            connection.shut_down()

    def disconnected(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._update_accepting()
        self._quiet.set()

    async def _tick(self) -> None:
        config = self.config
        shortest = min(config.header_timeout, config.idle_timeout, config.linger_timeout)
        period = min(1.0, max(shortest / 4, 0.02))
        while True:
            await asyncio.sleep(period)
            self.now = self.loop.time()
            self.date = self._dates.value(time.time())
            for connection in tuple(self.connections):
                connection.check(self.now)
            self._look_for_idle()

    def _look_for_idle(self) -> None:
        """Finds what can be closed for the sake of others. What became idle a moment ago is most likely used again."""
        self._idle.clear()
        if not self._has_room():
            self._idle += (each for each in self.connections if each.idle and self.now - each.since > _IDLE)
            self._idle.sort(key=lambda each: each.since, reverse=True)
            self._update_accepting()

    # The end

    async def _shut_down(self, listeners: Sequence[socket.socket]) -> None:
        self.stopping = True
        if self.answers.admission is not None:
            self.answers.admission.on_dismiss = self._quiet.set
        self._pause_accepting()
        self._listeners = ()
        if self._retry is not None:
            self._retry.cancel()
        for listener in listeners:
            listener.close()
        for connection in tuple(self.connections):
            connection.shut_down()
        try:
            async with asyncio.timeout(self.config.shutdown_timeout):
                while self._busy and not self._aborted:
                    await self._wait_for_change()
        except TimeoutError:
            self.answers.log(f"error: {self.answers.active} requests did not finish in time and are cancelled")
        finally:
            self.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ABORT_TIMEOUT):
                while self.connections or self._opening:
                    await self._wait_for_change()
        await self.answers.close()

    @property
    def _busy(self) -> bool:
        return bool(self.connections or self.answers.active or self._opening)

    async def _wait_for_change(self) -> None:
        self._quiet.clear()
        await self._quiet.wait()
