"""The HTTP client, with a connection pool for each event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from wasi_http.client.config import ClientConfig
from wasi_http.client.connection import Connection
from wasi_http.client.dial import dial
from wasi_http.client.errors import ConnectionDropped, InvalidName, InvalidTarget, TooManyConnections
from wasi_http.client.exchange import Exchange, Respond
from wasi_http.client.lookup import Lookups
from wasi_http.client.pool import HostSlots, Pool
from wasi_http.client.request import ConnectionQuota, Outgoing, OutgoingRequestConfig
from wasi_http.client.tls import TlsConfig, context_of
from wasi_http.http1.fieldsection import Field
from wasi_http.net.authority import InvalidAuthority, InvalidHost, Origin
from wasi_http.net.policy import AddressPolicy
from wasi_http.settings import LONGEST

__all__ = ["Client"]

# The most parsed authorities that are cached.
_MAX_ROUTES: Final = 1024


class _Body(Protocol):
    def cancel(self) -> None: ...


class _Response(Protocol):
    """What a client needs of a response: it cancels the body of one that arrives after a cancellation."""

    @property
    def body(self) -> _Body: ...


R = TypeVar("R", bound=_Response)


class _Route:
    """The origin of an authority, and what its requests have in their heads."""

    __slots__ = ("headers", "host", "origin", "prefix")

    def __init__(self, config: ClientConfig, authority: str, tls: bool) -> None:
        try:
            self.origin = Origin.parse(authority, tls)
        except InvalidHost as error:
            raise InvalidName(str(error)) from error
        except InvalidAuthority as error:
            raise InvalidTarget(str(error)) from error
        self.host = authority.encode()
        self.prefix = b""
        self.headers: list[Field] = []
        proxy = config.proxies.proxy_for(self.origin) if config.proxies is not None else None
        if proxy is not None and not tls:
            self.prefix = b"http://" + self.host
            if proxy.authorization is not None:
                self.headers.append((b"proxy-authorization", proxy.authorization))


def _as_it_is(error: OSError) -> OSError:
    return error


class Client(Generic[R]):
    """Sends requests over HTTP/1.1, with keep-alive. It may serve any number of event loops.

    ``respond`` makes responses; ``failure`` maps an error to the one that callers and users of bodies see.

    A loop's connections are closed by `close`, and when the loop shuts its asynchronous generators down, as
    `asyncio.run` does.
    """

    def __init__(
        self,
        config: ClientConfig | None = None,
        *,
        respond: Respond[R],
        failure: Callable[[OSError], OSError] = _as_it_is,
    ) -> None:
        """Raises OSError for unusable files of `TlsConfig`."""
        if not isinstance(config, ClientConfig | None):
            raise TypeError(f"expected ClientConfig, got {type(config).__name__}: write Client(ClientConfig(...))")
        self.config = config if config is not None else ClientConfig()
        self.respond = respond
        self.failure = failure
        if self.config.tls != TlsConfig():
            context_of(self.config.tls)
        self._lookups = Lookups(self.config.max_lookups, self.config.max_lookups_per_guest)
        self._routes: dict[tuple[bool, str], _Route] = {}
        self._pools: _Pools = weakref.WeakKeyDictionary()
        # Guards the pools: each thread may have a loop.
        self._lock = threading.Lock()

    def send_request(
        self, request: Outgoing, config: OutgoingRequestConfig, *, admit: AddressPolicy | None = None
    ) -> asyncio.Future[R]:
        """Returns a future of the response, done when its head has arrived; both bodies may still be in transit.

        ``admit`` is called for each resolved address, and before an open connection is reused, unless it has already
        admitted that one. Only admitted addresses are connected to.

        Awaiting it raises OSError, see `client.errors`. Cancelling it cancels the exchange.
        """
        loop = asyncio.get_running_loop()
        reply = _Reply(self, loop, request, config, admit)
        try:
            exchange = self._start(reply)
        except OSError as error:
            reply.set_exception(self.failure(error))
            return reply
        if exchange is None:
            reply.send()
        else:
            reply.running = exchange
        return reply

    def _start(self, reply: _Reply[R]) -> Exchange[R] | None:
        """Sends a request on an idle connection; returns None if there is none for it.

        The reply receives the exchange's outcome, `ConnectionDropped` if the request must be sent on another
        connection. Raises ClientError for an invalid request.
        """
        route = self._route(reply.request, reply.config)
        quota = reply.config.quota
        _check(quota)
        pool = self._pool(reply.get_loop())
        while (connection := pool.take(route.origin, reply.admit, quota)) is not None:
            if _is_fit(connection):
                return self._begin(connection, route, reply, reply.receive)
        return None

    async def _send(self, reply: _Reply[R], again: bool) -> R:
        """Sends a request on a new connection, or on one that becomes idle while the limits allow no new ones.

        ``again``: it was sent before, and is not retried.
        """
        loop = reply.get_loop()
        while True:
            received: asyncio.Future[R | OSError] = loop.create_future()

            def deliver(outcome: R | OSError, received: asyncio.Future[Any] = received) -> None:
                if not received.done():
                    received.set_result(outcome)

            exchange = await self._dial(reply, deliver)
            try:
                outcome = await received
            except BaseException:
                exchange.abandon()
                raise
            if not isinstance(outcome, OSError):
                return outcome
            if again or not isinstance(outcome, ConnectionDropped):
                raise outcome
            again = True
            self._flush(reply)

    def _flush(self, reply: _Reply[R]) -> None:
        """Closes the idle connections to a request's origin."""
        self._pool(reply.get_loop()).flush(self._route(reply.request, reply.config).origin)

    def _begin(
        self, connection: Connection, route: _Route, reply: _Reply[R], receiver: Callable[[R | OSError], None]
    ) -> Exchange[R]:
        request = reply.request
        try:
            target = request.path.encode("utf-8", "surrogatepass")
            if not target.startswith(b"/") and target != b"*":
                # Anything else would change the authority in the absolute form, which is sent to proxies.
                raise InvalidTarget(f"{request.path!r} is not a path")
            if route.prefix:
                target = route.prefix + target if target != b"*" else route.prefix
            host, headers = _host(request, route.host)
            if route.headers:
                headers = [*headers, *route.headers]
            exchange = Exchange(
                connection, request, reply.config, self.config.wire_limits, receiver, self.respond, self.failure
            )
            exchange.start(target, host, headers)
        except BaseException:
            # Nothing was sent.
            if connection.owner is not None:
                connection.owner.release(connection)
            raise
        connection.catch_up()
        return exchange

    async def _dial(self, reply: _Reply[R], receiver: Callable[[R | OSError], None]) -> Exchange[R]:
        loop, config, admit = reply.get_loop(), reply.config, reply.admit
        route = self._route(reply.request, config)
        if config.connect_timeout <= 0:
            raise TimeoutError("no time to connect")
        deadline = loop.time() + min(config.connect_timeout, LONGEST)
        pool = self._pool(loop)
        quota = config.quota
        if quota is not None:
            _check(quota)  # again: other requests of the guest may have taken connections meanwhile
            quota.used += 1  # also while connecting
        try:
            found = await pool.acquire(route.origin, deadline, admit, quota)
            while not isinstance(found, HostSlots) and not _is_fit(found):
                found = await pool.acquire(route.origin, deadline, admit, quota)
            if isinstance(found, HostSlots):
                connection = Connection(loop)
                try:
                    resolve = self.config.resolver or partial(self._lookups.resolve, guest=quota)
                    dialled = await dial(self.config, resolve, route.origin, connection, deadline, admit)
                except BaseException:
                    pool.release_slot(found, quota)
                    raise
                connection.sock, connection.address = dialled
                connection.port = route.origin.port
                if connection.closed:
                    # Already closed; but the server may have said why.
                    pool.release_slot(found, quota)
                else:
                    pool.fill(found, connection, quota)
            else:
                connection = found
        finally:
            if quota is not None:
                quota.used -= 1
        return self._begin(connection, route, reply, receiver)

    def _route(self, request: Outgoing, config: OutgoingRequestConfig) -> _Route:
        authority = request.authority or ""
        key = config.use_tls, authority
        route = self._routes.get(key)
        if route is None:
            route = _Route(self.config, authority, config.use_tls)
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[key] = route
        return route

    def _pool(self, loop: asyncio.AbstractEventLoop) -> Pool:
        found = self._pools.get(loop)
        if found is not None:
            return found[0]
        pool = Pool(self.config)
        closing = _close_with(loop, pool, self._pools, self._lock)
        with contextlib.suppress(StopIteration):
            closing.__anext__().send(None)
        with self._lock:
            # Loops that were closed without shutting their generators down.
            dropped = [self._pools.pop(other)[0] for other in list(self._pools) if other.is_closed()]
            self._pools[loop] = pool, closing
        for other in dropped:
            other.drop()
        return pool

    async def close(self) -> None:
        """Closes the running loop's connections, those in use as well. The client can still be used."""
        found = self._pools.get(asyncio.get_running_loop())
        if found is not None:
            await found[1].aclose()


_Pools = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Pool, AsyncGenerator[None, None]]]


async def _close_with(
    loop: asyncio.AbstractEventLoop, pool: Pool, pools: _Pools, lock: threading.Lock
) -> AsyncGenerator[None, None]:
    """Never yields a value; it exists so that `loop.shutdown_asyncgens()` closes the pool."""
    try:
        yield
    finally:
        with lock:
            pools.pop(loop, None)
        await pool.close()


def _is_fit(connection: Connection) -> bool:
    """Returns whether an idle connection can be reused; aborts it if not.

    A closed one would lose the request, which may not be idempotent. And unsolicited data must not be taken for the
    response.
    """
    if connection.closed:
        return False
    if connection.readable():
        connection.abort()
        return False
    return True


def _check(quota: ConnectionQuota | None) -> None:
    if quota is not None and quota.used >= quota.limit:
        raise TooManyConnections(f"the guest already has {quota.used} connections")


def _host(request: Outgoing, host: bytes) -> tuple[bytes, list[Field]]:
    """Returns the value of Host, which the request's headers may override, and the other headers."""
    headers = request.headers
    for name, value in headers:
        if name.lower() == b"host":
            return value, [entry for entry in headers if entry[0].lower() != b"host"]
    return host, headers


class _Reply(asyncio.Future[R]):
    """A request in flight, and its response.

    It has a task only if the request could not be sent on an idle connection.
    """

    def __init__(
        self,
        client: Client[R],
        loop: asyncio.AbstractEventLoop,
        request: Outgoing,
        config: OutgoingRequestConfig,
        admit: AddressPolicy | None,
    ) -> None:
        super().__init__(loop=loop)
        self._client = client
        self.request = request
        self.config = config
        self.admit = admit
        self._delivered = False
        self.running: Exchange[R] | asyncio.Task[R] | None = None

    def send(self, again: bool = False) -> None:
        """Sends the request in a task; see `Client._send`."""
        task = self.running = self.get_loop().create_task(self._client._send(self, again))
        task.add_done_callback(self._on_task_done)

    def receive(self, outcome: R | OSError) -> None:
        """Takes the outcome of the exchange."""
        self.running = None
        if self.done():
            return
        if not isinstance(outcome, OSError):
            self.set_result(outcome)
        elif isinstance(outcome, ConnectionDropped):
            # Other idle connections may be as dead as this one.
            self._client._flush(self)
            self.send(again=True)
        else:
            self.set_exception(self._client.failure(outcome))

    def _on_task_done(self, task: asyncio.Task[R]) -> None:
        self.running = None
        if task.cancelled():
            super().cancel()
        elif self.done():
            _discard(task)
        elif (error := task.exception()) is not None:
            self.set_exception(self._client.failure(error) if isinstance(error, OSError) else error)
        else:
            self.set_result(task.result())

    def result(self) -> R:
        self._delivered = True
        return super().result()

    def __await__(self) -> Generator[Any, None, R]:
        response = yield from super().__await__()
        self._delivered = True
        return response

    __iter__ = __await__

    def cancel(self, msg: Any | None = None) -> bool:
        running = self.running
        if isinstance(running, asyncio.Task):
            if running.cancel(msg):
                return True
        elif running is not None:
            self.running = None
            cancelled = super().cancel(msg)
            running.abandon()
            return cancelled
        if self.done() and not self._delivered:
            # The waiting task is cancelled just as the response arrives, and will not see it.
            _discard(self)
        return super().cancel(msg)


def _discard(reply: asyncio.Future[R]) -> None:
    """Cancels the body of a response that will not be read."""
    if not reply.cancelled() and reply.exception() is None:
        reply.result().body.cancel()
