"""Clients: connections that are kept for further requests, and limits on how many there are."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from wasi_http.client.config import ClientConfig
from wasi_http.client.connecting import Allows, Target, connect
from wasi_http.client.connection import Connection, Exchange, http_error
from wasi_http.client.message import ClientRequest, ClientResponse, OutgoingRequestConfig
from wasi_http.error import ErrorCode, HttpError

__all__ = ["Client", "default_send_request"]

# Methods that may be sent once more when it is not known whether they arrived (RFC 9110, section 9.2.2).
_IDEMPOTENT: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))


class Client:
    """Sends requests from one event loop: the one that it is made in.

    Its `send_request` suits the hook of that name. `close` ends the connections that are kept; a client is an
    asynchronous context manager that does so.
    """

    def __init__(self, config: ClientConfig | None = None) -> None:
        self.config = config or ClientConfig()
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Target, deque[Connection]] = {}
        self._idle_count = 0
        self._open: dict[Target, int] = {}
        self._open_count = 0
        self._waiting: deque[tuple[Target, asyncio.Future[None]]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._context: ssl.SSLContext | None = None
        self._closed = False

    async def send_request(
        self, request: ClientRequest, config: OutgoingRequestConfig, *, allows: Allows | None = None
    ) -> ClientResponse:
        """Sends a request to wherever it says, unless ``allows`` forbids. Raises HttpError.

        ``allows`` is asked for each address and port that the authority leads to; only those that pass are connected
        to, and if none does the error is ``destination-IP-prohibited``.

        Returns with the head of the response; the body follows, and so does what is left of the request's.
        """
        target = Target.of(request.authority, config.use_tls)
        exchange = Exchange(request, config, self.config.wire_limits)
        connection = self._take(target, allows)
        if connection is not None:
            connection.carry(exchange)
            try:
                return await exchange.response
            except HttpError as error:
                # A server may close an idle connection just when it is used.
                again = error.code is ErrorCode.ConnectionTerminated and request.method in _IDEMPOTENT
                if exchange.touched or not again:
                    raise
                exchange = Exchange(request, config, self.config.wire_limits)
            except BaseException:
                exchange.abandon()
                raise
        try:
            connection = await self._connect(target, config.connect_timeout, allows)
            connection.carry(exchange)
            return await exchange.response
        except HttpError:
            raise
        except BaseException:
            exchange.abandon()
            raise

    async def _connect(self, target: Target, seconds: float, allows: Allows | None) -> Connection:
        waiting = False
        try:
            async with asyncio.timeout(min(seconds, 365 * 86400.0)):
                while not self._has_room(target):
                    waiting = True
                    await self._wait(target)
                    connection = self._take(target, allows)
                    if connection is not None:
                        return connection
                waiting = False
                self._count(target, 1)
                try:
                    return await self._opened(target, allows)
                except BaseException:
                    self._count(target, -1)
                    raise
        except TimeoutError as error:
            if waiting:
                message = f"all connections to {target.host} are in use, or all that there may be"
                raise HttpError(ErrorCode.ConnectionLimitReached, message) from error
            raise HttpError(ErrorCode.ConnectionTimeout, f"no connection to {target.host} in time") from error
        except OSError as error:
            raise http_error(error) from error

    async def _opened(self, target: Target, allows: Allows | None) -> Connection:
        context: ssl.SSLContext | None = None
        if target.tls:
            if self._context is None:
                self._context = self.config.tls.context()
            context = self._context
        sock = await connect(target, allows, self.config.attempt_delay)
        try:
            connection = Connection(self._loop, target, sock, self._keep, self._forget)
            await connection.open(context)
        except BaseException:
            sock.close()
            raise
        return connection

    # Connections that are kept

    def _take(self, target: Target, allows: Allows | None) -> Connection | None:
        """An idle connection that is still good, the one that was used last."""
        idle = self._idle.get(target)
        while idle:
            connection = idle.pop()
            self._idle_count -= 1
            if not connection.is_alive:
                connection.abort()
            elif allows is not None and not allows(ipaddress.ip_address(connection.address), target.port):
                idle.appendleft(connection)
                self._idle_count += 1
                return None
            else:
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        """A connection has carried its exchange."""
        if self._closed or self._idle_count >= self.config.max_idle_connections:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.setdefault(connection.target, deque()).append(connection)
        self._idle_count += 1
        if self._sweep is None:
            self._sweep = self._loop.call_later(self.config.idle_timeout, self._close_idle)
        if self._waiting:
            self._wake(connection.target)

    def _close_idle(self) -> None:
        self._sweep = None
        since = self._loop.time() - self.config.idle_timeout
        for target, idle in list(self._idle.items()):
            while idle and idle[0].idle_since <= since:
                self._idle_count -= 1
                idle.popleft().close()
            if not idle:
                del self._idle[target]
        if self._idle:
            first = min(idle[0].idle_since for idle in self._idle.values())
            self._sweep = self._loop.call_at(first + self.config.idle_timeout, self._close_idle)

    # Limits

    def _has_room(self, target: Target) -> bool:
        if self._open.get(target, 0) >= self.config.max_connections_per_host:
            return False
        if self._open_count >= self.config.max_connections and self._idle_count:
            # One to another host makes room.
            idle = next(idle for idle in self._idle.values() if idle)
            self._idle_count -= 1
            idle.popleft().close()
        return self._open_count < self.config.max_connections

    def _count(self, target: Target, change: int) -> None:
        self._open_count += change
        left = self._open.get(target, 0) + change
        if left:
            self._open[target] = left
        else:
            del self._open[target]
        if change < 0 and self._waiting:
            self._wake(target)

    def _forget(self, connection: Connection) -> None:
        idle = self._idle.get(connection.target)
        if idle and connection in idle:
            idle.remove(connection)
            self._idle_count -= 1
        self._count(connection.target, -1)

    async def _wait(self, target: Target) -> None:
        turn: asyncio.Future[None] = self._loop.create_future()
        entry = target, turn
        self._waiting.append(entry)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._wake(target)  # the turn is somebody else's
            raise
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def _wake(self, target: Target) -> None:
        """Gives a connection's place to the first that waits for it."""
        for entry in self._waiting:
            wanted, turn = entry
            if not turn.done() and (wanted == target or self._open_count < self.config.max_connections):
                self._waiting.remove(entry)
                turn.set_result(None)
                return

    def close(self) -> None:
        """Closes the idle connections; those in use are closed when their exchanges end."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for idle in list(self._idle.values()):
            for connection in list(idle):
                connection.close()
        self._idle.clear()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await asyncio.sleep(0)  # transports close in the loop's next turn


# The default client of each event loop, and the generator that ends it with the loop.
_clients: dict[asyncio.AbstractEventLoop, tuple[Client, AsyncGenerator[None, None]]] = {}


async def default_send_request(
    request: ClientRequest, config: OutgoingRequestConfig, *, allows: Allows | None = None
) -> ClientResponse:
    """`Client.send_request` of a client with the default settings, one for each event loop.

    There is no policy here, unless ``allows`` is one. The connections that are kept end with the loop, if that is shut
    down as `asyncio.run` and `asyncio.Runner` do it.
    """
    loop = asyncio.get_running_loop()
    found = _clients.get(loop)
    if found is None:
        client = Client()
        guard = _guard(loop, client)
        _clients[loop] = client, guard
        await anext(guard)
    else:
        client = found[0]
    return await client.send_request(request, config, allows=allows)


async def _guard(loop: asyncio.AbstractEventLoop, client: Client) -> AsyncGenerator[None, None]:
    """Closes a client with its loop: what is left of asynchronous generators is closed before a loop is."""
    try:
        yield
    finally:
        del _clients[loop]
        client.close()
        await asyncio.sleep(0)  # transports close in the loop's next turn
