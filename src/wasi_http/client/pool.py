"""The connection pool of one event loop: idle connections, limits, and waiting requests.

Guests, identified by their `ConnectionQuota`, have shares: one gets another connection only while it has fewer than are
left, to the host and in total. So a guest that keeps its connections busy leaves some to others, and waiting hosts and
guests take turns. Requests without a quota are limited by the totals only.
"""

from __future__ import annotations

import asyncio

from wasi_http.client.config import ClientConfig
from wasi_http.client.connection import Connection
from wasi_http.client.errors import ConnectionClosed, TooManyConnections
from wasi_http.client.request import ConnectionQuota
from wasi_http.net.authority import Origin
from wasi_http.net.policy import AddressPolicy

__all__ = ["HostSlots", "Pool"]


class _Waiter:
    """A waiting request; ``found`` resolves to a connection, or None for a slot to make one."""

    __slots__ = ("admit", "found")

    def __init__(self, admit: AddressPolicy | None) -> None:
        self.admit = admit
        self.found: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()


class HostSlots:
    """The slots of one origin: ``open`` counts its connections, including those being made.

    ``held`` counts those in use by each guest, ``queues`` has the waiting requests, by guest.
    """

    __slots__ = ("held", "idle", "key", "open", "queues")

    def __init__(self, key: tuple[bool, str, int]) -> None:
        self.key = key
        self.idle: list[Connection] = []
        self.open = 0
        self.held: dict[ConnectionQuota, int] = {}
        # Dicts used as ordered sets: removal in O(1), and the order is that of the turns.
        self.queues: dict[ConnectionQuota | None, dict[_Waiter, None]] = {}


class Pool:
    """A connection is in exclusive use from `take` or `acquire` until `release` or `on_closed`."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._hosts: dict[tuple[bool, str, int], HostSlots] = {}
        self._waiting: dict[HostSlots, None] = {}
        self._held: dict[ConnectionQuota, int] = {}
        self._connections: dict[Connection, HostSlots] = {}
        self._closed = False
        self._gone: asyncio.Future[None] | None = None
        #: The number of connections, including those being made, and of idle ones.
        self.open = 0
        self.idle = 0

    def take(
        self, origin: Origin, admit: AddressPolicy | None = None, guest: ConnectionQuota | None = None
    ) -> Connection | None:
        """Returns the most recently used idle connection that ``admit`` allows, or None."""
        slots = self._hosts.get(origin.key)
        if slots is None or not slots.idle or not self._has_share(slots, guest):
            return None
        idle = slots.idle
        for index in reversed(range(len(idle))):
            connection = idle[index]
            if connection.closed or connection.is_admitted(admit):
                del idle[index]
                self.idle -= 1
                if not connection.closed:
                    connection.guest = guest
                    self._hold(slots, guest)
                    return connection
        return None

    async def acquire(
        self, origin: Origin, deadline: float, admit: AddressPolicy | None = None, guest: ConnectionQuota | None = None
    ) -> Connection | HostSlots:
        """Returns an idle connection, or the host's slots with one reserved, as soon as limits and shares allow it.

        Fill the slot with `fill`, or return it with `release_slot`. Raises TooManyConnections at the deadline (in the
        loop's time).
        """
        connection = self.take(origin, admit, guest)
        if connection is not None:
            return connection
        slots = self._hosts.get(origin.key)
        if slots is None:
            slots = self._hosts[origin.key] = HostSlots(origin.key)
        if self._reserve(slots, guest):
            return slots
        waiter = _Waiter(admit)
        slots.queues.setdefault(guest, {})[waiter] = None
        self._waiting.setdefault(slots)
        try:
            async with asyncio.timeout_at(deadline):
                found = await waiter.found
        except BaseException as error:
            if waiter.found.done() and not waiter.found.cancelled():
                # A connection was assigned at the same moment.
                served = waiter.found.result()
                if served is None:
                    self.release_slot(slots, guest)
                else:
                    self.release(served)
            if isinstance(error, TimeoutError):
                raise TooManyConnections(f"no connection to {origin} became free") from error
            raise
        finally:
            self._dequeue(slots, guest, waiter)
            self._forget(slots)
        return slots if found is None else found

    # Shares

    def _has_share(self, slots: HostSlots, guest: ConnectionQuota | None) -> bool:
        """Returns whether a guest may have another connection."""
        if guest is None:
            return True
        config = self._config
        busy_here, busy = slots.open - len(slots.idle), self.open - self.idle
        left_here, left = config.max_connections_per_host - busy_here, config.max_connections - busy
        if busy_here < left_here and busy < left:
            return True  # however many of them are its own
        return slots.held.get(guest, 0) < left_here and self._held.get(guest, 0) < left

    def _hold(self, slots: HostSlots, guest: ConnectionQuota | None) -> None:
        if guest is not None:
            slots.held[guest] = slots.held.get(guest, 0) + 1
            self._held[guest] = self._held.get(guest, 0) + 1

    def _let_go(self, slots: HostSlots, guest: ConnectionQuota | None) -> None:
        if guest is not None:
            for held in (slots.held, self._held):
                left = held.pop(guest) - 1
                if left:
                    held[guest] = left

    # Slots

    def _reserve(self, slots: HostSlots, guest: ConnectionQuota | None) -> bool:
        config = self._config
        if not self._has_share(slots, guest):
            return False
        if slots.open >= config.max_connections_per_host:
            self._close_one_idle(slots)  # one that the request's policy does not admit
            return False
        if self.open >= config.max_connections:
            self._close_one_idle(*self._hosts.values())
            return False
        slots.open += 1
        self.open += 1
        self._hold(slots, guest)
        return True

    def _close_one_idle(self, *hosts: HostSlots) -> None:
        """Makes room: the slot is assigned to a waiting request when the connection is gone."""
        for slots in hosts:
            if slots.idle:
                self.idle -= 1
                slots.idle.pop(0).close()
                return

    def flush(self, origin: Origin) -> None:
        """Closes the idle connections of an origin."""
        while (connection := self.take(origin)) is not None:
            connection.close()

    def fill(self, slots: HostSlots, connection: Connection, guest: ConnectionQuota | None) -> None:
        connection.owner = self
        connection.guest = guest
        self._connections[connection] = slots

    def release_slot(self, slots: HostSlots, guest: ConnectionQuota | None) -> None:
        """Returns a slot that was not used, or whose connection has ended."""
        self._let_go(slots, guest)
        slots.open -= 1
        self.open -= 1
        self._assign()
        self._forget(slots)

    def _forget(self, slots: HostSlots) -> None:
        if not slots.open and not slots.queues:
            self._hosts.pop(slots.key, None)

    # Waiting requests

    def _dequeue(self, slots: HostSlots, guest: ConnectionQuota | None, waiter: _Waiter) -> None:
        """Removes a request; other guests and hosts have their turns first."""
        queue = slots.queues.get(guest)
        if queue is None or waiter not in queue:
            return
        del queue[waiter]
        del slots.queues[guest]
        if queue:
            slots.queues[guest] = queue
        self._waiting.pop(slots, None)
        if slots.queues:
            self._waiting[slots] = None

    def _assign(self) -> None:
        """Assigns slots to waiting requests, except of guests at their share and to hosts at their limit."""
        while self._waiting and self.open < self._config.max_connections and self._assign_one():
            pass

    def _assign_one(self) -> bool:
        for slots in self._waiting:
            for guest, queue in slots.queues.items():
                waiter = next((waiter for waiter in queue if not waiter.found.done()), None)
                if waiter is not None and self._reserve(slots, guest):
                    self._dequeue(slots, guest, waiter)
                    waiter.found.set_result(None)
                    return True
                if slots.open >= self._config.max_connections_per_host:
                    break
        return False

    def release(self, connection: Connection) -> None:
        """Takes an idle connection back."""
        if connection.closed:
            return  # it makes room when it is lost
        slots, config = self._connections[connection], self._config
        self._let_go(slots, connection.guest)
        connection.guest = None
        if slots.queues and self._hand_on(connection, slots):
            return
        wanted_room = slots.queues or (self._waiting and self.open >= config.max_connections)
        if self.idle >= config.max_idle_connections or wanted_room or self._closed:
            connection.close()
            return
        slots.idle.append(connection)
        self.idle += 1
        connection.set_due(connection.loop.time() + config.idle_timeout)
        if self._waiting:
            self._assign()  # the shares have grown

    def _hand_on(self, connection: Connection, slots: HostSlots) -> bool:
        """Passes a connection to a waiting request to its host."""
        for guest, queue in slots.queues.items():
            waiter = next((waiter for waiter in queue if not waiter.found.done()), None)
            if waiter is None or not connection.is_admitted(waiter.admit):
                continue
            # The connection is neither idle nor held now, but counts as open: leave it out of the shares.
            slots.open -= 1
            self.open -= 1
            has_share = self._has_share(slots, guest)
            slots.open += 1
            self.open += 1
            if has_share:
                self._hold(slots, guest)
                connection.guest = guest
                self._dequeue(slots, guest, waiter)
                waiter.found.set_result(connection)
                return True
        return False

    def on_closed(self, connection: Connection) -> None:
        """Forgets a closed connection."""
        slots = self._connections.pop(connection)
        if not self._connections and self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        if connection in slots.idle:
            slots.idle.remove(connection)
            self.idle -= 1
        guest, connection.guest = connection.guest, None
        self.release_slot(slots, guest)

    async def close(self) -> None:
        """Closes all connections, including those in use, and returns when they are gone.

        One that is still being made serves its request first.
        """
        self._closed = True
        error = ConnectionClosed("the client was closed")
        for connection in tuple(self._connections):
            if connection.exchange is not None:
                connection.exchange.fail(error, again=False)
            else:
                connection.abort()
        if self._connections:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone

    def drop(self) -> None:
        """Closes the sockets of a loop that no longer runs."""
        for connection in tuple(self._connections):
            if connection.sock is not None:
                connection.sock.close()
        self._connections.clear()
