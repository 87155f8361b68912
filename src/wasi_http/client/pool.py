"""The connections of one event loop: those that are idle, how many there may be, and who waits for one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from wasi_http.client.config import ClientConfig
from wasi_http.client.connection import Connection
from wasi_http.client.origin import Admit, Origin
from wasi_http.error import ErrorCode, HttpError

__all__ = ["Place", "Pool"]


class Place:
    """What a pool knows of one origin: ``open`` counts its connections, those under way included."""

    __slots__ = ("idle", "key", "open", "waiting")

    def __init__(self, key: tuple[bool, str, int]) -> None:
        self.key = key
        self.idle: list[Connection] = []
        self.open = 0
        self.waiting = 0


class Pool:
    """A connection is of no use to anyone else from `take` or `acquire` until `release` or `lost`."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._places: dict[tuple[bool, str, int], Place] = {}
        self._waiting: deque[tuple[Place, Admit | None, asyncio.Future[Connection | None]]] = deque()
        self._connections: dict[Connection, Place] = {}
        self._closed = False
        self._gone: asyncio.Future[None] | None = None
        #: How many connections there are, those under way included, and how many of them are idle.
        self.open = 0
        self.idle = 0

    def take(self, origin: Origin, admit: Admit | None = None) -> Connection | None:
        """An idle connection that ``admit`` lets a request have, of those the one that was used last."""
        place = self._places.get(origin.key)
        if place is None:
            return None
        idle = place.idle
        for index in reversed(range(len(idle))):
            connection = idle[index]
            if connection.closed or connection.is_admitted(admit):
                del idle[index]
                self.idle -= 1
                if not connection.closed:
                    return connection
        return None

    async def acquire(self, origin: Origin, deadline: float, admit: Admit | None = None) -> Connection | Place:
        """An idle connection, or a place for a new one, as soon as the limits allow it, first come first served.

        Whoever gets a place gives it back with `vacate` or fills it with `occupy`. Raises HttpError with
        connection-limit-reached at the deadline (in the loop's time).
        """
        connection = self.take(origin, admit)
        if connection is not None:
            return connection
        place = self._places.get(origin.key)
        if place is None:
            place = self._places[origin.key] = Place(origin.key)
        if self._reserve(place):
            return place
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        entry = place, admit, waiter
        self._waiting.append(entry)
        place.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                found = await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                # It was served in the same moment.
                served = waiter.result()
                if served is None:
                    self.vacate(place)
                else:
                    self.release(served)
            if isinstance(error, TimeoutError):
                raise HttpError(ErrorCode.ConnectionLimitReached, f"no connection to {origin} became free") from error
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(entry)
            place.waiting -= 1
            self._forget(place)
        return place if found is None else found

    def _reserve(self, place: Place) -> bool:
        config = self._config
        if place.open >= config.max_connections_per_host:
            self._close_one_idle(place)  # which is one that the request may not have
            return False
        if self.open >= config.max_connections:
            self._close_one_idle(*self._places.values())
            return False
        place.open += 1
        self.open += 1
        return True

    def _close_one_idle(self, *places: Place) -> None:
        """Makes room; whoever waits is served when the connection is gone."""
        for place in places:
            if place.idle:
                self.idle -= 1
                place.idle.pop(0).close()
                return

    def flush(self, origin: Origin) -> None:
        """Closes the idle connections of an origin."""
        while (connection := self.take(origin)) is not None:
            connection.close()

    def occupy(self, place: Place, connection: Connection) -> None:
        connection.owner = self
        self._connections[connection] = place

    def vacate(self, place: Place) -> None:
        """A place, or a connection, is not there any more."""
        place.open -= 1
        self.open -= 1
        self._serve()
        self._forget(place)

    def _forget(self, place: Place) -> None:
        if not place.open and not place.waiting:
            self._places.pop(place.key, None)

    def _serve(self) -> None:
        """Gives places to those who wait, in order; whose host has too many connections lets others pass."""
        passed = []
        while self._waiting and self.open < self._config.max_connections:
            entry = self._waiting.popleft()
            place, _, waiter = entry
            if not waiter.done():
                if self._reserve(place):
                    waiter.set_result(None)
                else:
                    passed.append(entry)
        self._waiting.extendleft(reversed(passed))

    def release(self, connection: Connection) -> None:
        """A connection is idle again."""
        if connection.closed:
            return  # it makes room when it is lost
        place, config = self._connections[connection], self._config
        if place.waiting:
            for entry in self._waiting:
                wanted, admit, waiter = entry
                if wanted is place and not waiter.done() and connection.is_admitted(admit):
                    self._waiting.remove(entry)
                    waiter.set_result(connection)
                    return
        wanted_room = place.waiting or (self._waiting and self.open >= config.max_connections)
        if self.idle >= config.max_idle_connections or wanted_room or self._closed:
            connection.close()
            return
        place.idle.append(connection)
        self.idle += 1
        connection.set_due(connection.loop.time() + config.idle_timeout)

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        place = self._connections.pop(connection)
        if not self._connections and self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        if connection in place.idle:
            place.idle.remove(connection)
            self.idle -= 1
        self.vacate(place)

    async def close(self) -> None:
        """Ends all connections, those in use as well, and returns when they are gone.

        One that is still being made serves its request and is closed then.
        """
        self._closed = True
        error = HttpError(ErrorCode.ConnectionTerminated, "the client was closed")
        for connection in tuple(self._connections):
            if connection.exchange is not None:
                connection.exchange.fail(error, again=False)
            else:
                connection.abort()
        if self._connections:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone

    def drop(self) -> None:
        """What `close` does, for a loop that does not run any more."""
        for connection in tuple(self._connections):
            if connection.sock is not None:
                connection.sock.close()
        self._connections.clear()
