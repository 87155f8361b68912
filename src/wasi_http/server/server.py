"""The server of one process: a listening socket, its connections, and how they end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from typing import Final

from wasi_http.engine import Turns, leaving_stores
from wasi_http.http1.date import DateCache
from wasi_http.server.connection import Connection
from wasi_http.server.exchange import Exchange
from wasi_http.server.handler import Handler
from wasi_http.server.instances import Instances

__all__ = ["SPARE_INSTANCES", "Worker"]

#: How many instances an engine needs beside those of requests at once: large ones keep their place when they end, until
#: the system has taken their memory back.
SPARE_INSTANCES: Final = 16

# When to try again, in seconds, after a connection could not be accepted.
_RETRY: Final = 0.5

# How often, in seconds, guests whose clients have gone are looked at.
_GRACE_INTERVAL: Final = 0.05

# How often, in seconds, guests that take long to leave are looked at.
_LEAVING_INTERVAL: Final = 0.005

# How long, in seconds, the end waits for what was aborted: only host functions that refuse to be cancelled take longer.
_ABORT_TIMEOUT: Final = 5.0

# How long, in seconds, a connection is idle before it is closed in favour of another.
_IDLE: Final = 1.0

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
        self.instances = Instances(handler, self.loop, self._make_way)
        self.connections: set[Connection] = set()
        self.active: set[Exchange] = set()
        self.stopping = False
        self._turns = Turns.of(handler.engine)
        self._most = handler.config.max_concurrent_requests
        self._leaving: asyncio.TimerHandle | None = None
        # A queue from whose middle those can go whose clients do. The values say since when they wait.
        self._waiting: dict[Exchange, float] = {}
        self._newest = False
        # The guests whose clients have gone, in that order, and when they are unwound.
        self._retired: dict[Exchange, float] = {}
        self._retiring: asyncio.TimerHandle | None = None
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
                self.instances.close()

    def abort(self) -> None:
        """Ends all that is under way, at once; `serve` returns soon after."""
        self._aborted = True
        for opening in self._opening:
            opening.cancel()
        for exchange in tuple(self.active):
            exchange.cancel()
        for connection in tuple(self.connections):
            connection.abort()
        self._quiet.set()

    # Connections

    def _has_room(self) -> bool:
        return len(self.connections) + len(self._opening) < self.handler.config.max_concurrent_connections

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
                self.handler.log(f"error: cannot accept a connection: {error}")
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
            self._look_for_idle()
            self._look_at_waiting()

    def _look_for_idle(self) -> None:
        """Finds what can be closed for the sake of others. What became idle a moment ago is most likely used again."""
        self._idle.clear()
        if not self._has_room():
            self._idle += (each for each in self.connections if each.idle and self.now - each.since > _IDLE)
            self._idle.sort(key=lambda each: each.since, reverse=True)
            self._update_accepting()

    def _look_at_waiting(self) -> None:
        oldest = self.now - self.handler.config.queue_timeout
        while self._waiting:
            exchange, since = next(iter(self._waiting.items()))
            if since > oldest:
                break
            exchange.expire()

    # Requests

    def admit(self, exchange: Exchange) -> None:
        """Starts an exchange, or lets it wait for its turn."""
        if len(self.active) >= self._most:
            self._waiting[exchange] = self.now
            if self._retired:
                self._retire_early()
        elif not self._turns.open:
            self._waiting[exchange] = self.now
            self._turns.join(self._start_waiting)
        else:
            self.active.add(exchange)
            exchange.start()

    @property
    def _full(self) -> bool:
        return len(self.active) >= self._most

    def readmit(self, exchange: Exchange) -> None:
        """Starts an exchange once more, which has had its part of this turn perhaps."""
        self.active.discard(exchange)
        self.admit(exchange)

    def _make_way(self) -> None:
        """Fewer guests may run while many large ones leave: for one without a place the event loop would wait."""
        leaving = leaving_stores()
        self._most = self.handler.config.max_concurrent_requests - max(0, leaving - SPARE_INSTANCES // 2)
        if self._leaving is None and leaving:
            self._leaving = self.loop.call_later(_LEAVING_INTERVAL, self._look_at_leaving)

    def _look_at_leaving(self) -> None:
        self._leaving = None
        self._make_way()
        if self._waiting:
            self._turns.join(self._start_waiting)

    def withdraw(self, exchange: Exchange) -> None:
        """An exchange does not wait for its turn any more."""
        self._waiting.pop(exchange, None)

    def retire(self, exchange: Exchange) -> None:
        """The client of an exchange has gone: its guest has a while to end, unless another needs its place."""
        grace = self.handler.config.client_gone_grace
        if (self._waiting and self._full) or self._aborted or not grace:
            exchange.cancel()
            grace = _ABORT_TIMEOUT
        self._retired[exchange] = self.loop.time() + grace
        if self._retiring is None:
            self._retiring = self.loop.call_later(_GRACE_INTERVAL, self._look_at_retired)

    def _retire_early(self) -> None:
        """A request has to wait: the guest that has been without client for the longest time makes room for it."""
        exchange = next(iter(self._retired))
        self._unwind(exchange)

    def _unwind(self, exchange: Exchange) -> None:
        exchange.cancel()
        # Again after some time, should a host function not let itself be cancelled.
        self._retired.pop(exchange, None)
        self._retired[exchange] = self.loop.time() + _ABORT_TIMEOUT

    def _look_at_retired(self) -> None:
        now = self.loop.time()
        for exchange, deadline in tuple(self._retired.items()):
            if deadline <= now or exchange.spins:
                self._unwind(exchange)
        self._retiring = self.loop.call_later(_GRACE_INTERVAL, self._look_at_retired) if self._retired else None

    def dismiss(self, exchange: Exchange) -> None:
        """An exchange's guest has finished."""
        self.active.discard(exchange)
        if self._retired:
            self._retired.pop(exchange, None)
        if self._waiting:
            self._turns.join(self._start_waiting)
        if self.stopping:
            self._quiet.set()

    def _start_waiting(self) -> None:
        newest = self._newest
        while self._waiting and self._turns.open and not self._full:
            exchange = next(reversed(self._waiting) if newest else iter(self._waiting))
            del self._waiting[exchange]
            self.admit(exchange)
        # A guest that used up the turn may stand before many of its kind: then the newest has the next.
        self._newest = not newest and not self._turns.open
        if self._waiting and not self._full:
            self._turns.join(self._start_waiting)

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
                while self._busy and not self._aborted:
                    await self._change()
        except TimeoutError:
            self.handler.log(f"error: {len(self.active)} requests did not finish in time and are cancelled")
        finally:
            self.abort()
        try:
            async with asyncio.timeout(_ABORT_TIMEOUT):
                while self._busy:
                    await self._change()
                await self.handler.client.close()
        except TimeoutError:
            self.handler.log(f"error: {len(self.active)} requests did not let themselves be cancelled")

    @property
    def _busy(self) -> bool:
        return bool(self.connections or self.active or self._opening)

    async def _change(self) -> None:
        """Waits for something to end."""
        self._quiet.clear()
        await self._quiet.wait()
