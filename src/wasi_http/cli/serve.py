"""``wasi-http serve``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wasi_http.cli.arguments import COMPONENT_FILE, HintingCommand, listening_address
from wasi_http.cli.durations import DURATION, POSITIVE_DURATION
from wasi_http.cli.failure import failures_of
from wasi_http.cli.progress import progress_display
from wasi_http.cli.sizes import MEMORY_SIZE, SIZE

if TYPE_CHECKING:
    from wasi_http.client import ClientConfig
    from wasi_http.http.egress import Egress

__all__ = ["serve"]

# Upper bounds of options: the memories of so many instances (see `Engine`) take 80 of the 128 TiB of a process's address
# space, no system opens more descriptors, and handle tables have 28 bits.
_MAX_REQUESTS = 10_000
_MAX_CONNECTIONS = 1_000_000
_MAX_HANDLES = (1 << 28) - 1
_MAX_RATE = 1_000_000_000

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\[\]:]*)):(?P<port>[0-9]{1,9})").fullmatch
_FILE = click.Path(exists=True, dir_okay=False)


def _address(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    found = _ADDRESS(value)
    if found is None:
        port = value if value.isdecimal() and len(value) < 6 else "8080"
        forms = f"write HOST:PORT, as in 127.0.0.1:{port}, [::1]:{port} or :{port} (all addresses)"
        raise click.BadParameter(f"{value[:300]!r} is not an address: {forms}")
    if int(found["port"]) > 65535:
        raise click.BadParameter(f"{value!r}: the port is 0 to 65535")
    return found["ipv6"] or found["host"] or "", int(found["port"])


def _environment(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    env = {}
    for value in values:
        name, equals, content = value.partition("=")
        if not name:
            raise click.BadParameter(f"{value!r} has no name: write NAME=VALUE, or NAME to pass the server's value on")
        if equals:
            env[name] = content
        elif name in os.environ:
            env[name] = os.environ[name]
    return {_text(name): _text(content) for name, content in env.items()}


def _headers(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[bytes, bytes], ...]:
    if not values:
        return ()
    from wasi_http.server.headers import RequestHeaders, parse_header

    fields = []
    for value in values:
        lines = _lines(value[1:]) if value.startswith("@") else [os.fsencode(value)]
        for line in lines:
            try:
                fields.append(parse_header(line))
            except ValueError as error:
                shown = line.decode("utf-8", "replace")
                raise click.BadParameter(f"{shown!r}: {error}; write NAME:VALUE, or @FILE") from None
    try:
        RequestHeaders(fields)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return tuple(fields)


def _egress(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Egress:
    from wasi_http.http.egress import Egress

    try:
        return Egress.parse(*values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _client(options: dict[str, Any]) -> ClientConfig:
    """Returns the client configuration; reports errors in files and variables before anything starts."""
    from wasi_http.client import ClientConfig, Proxies, TlsConfig
    from wasi_http.client.tls import context_of

    bundle, cert, key = (options[f"egress_{name}"] for name in ("ca_bundle", "client_cert", "client_key"))
    if key is not None and cert is None:
        raise click.UsageError("--egress-client-key needs --egress-client-cert")
    tls = TlsConfig(ca_bundle=bundle, client_cert=cert, client_key=key)
    proxies = None
    try:
        if bundle or cert:
            context_of(tls)
        if options["egress_proxy_from_env"]:
            proxies = Proxies.from_environment(os.environ)
    except OSError as error:
        files = {bundle: "--egress-ca-bundle", cert: "--egress-client-cert", key: "--egress-client-key"}
        raise click.UsageError(f"{files[error.filename]}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"--egress-proxy-from-env: {error}") from None
    return ClientConfig(tls=tls, proxies=proxies)


def _lines(path: str) -> list[bytes]:
    """Returns the lines of a file without blank ones."""
    try:
        return [line for line in Path(path).read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}") from None


def _text(value: str) -> str:
    """Returns Unicode text for guests; arguments of the system may be any bytes."""
    return os.fsencode(value).decode("utf-8", "replace")


@click.command(cls=HintingCommand, short_help="Serves a component over HTTP/1.1.")
@click.argument("file", type=COMPONENT_FILE, metavar="FILE")
@click.option("--addr", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", callback=_address,
              help="Listen on all addresses of HOST, or of the machine without it; port 0 takes a free one.")
@click.option("--host", metavar="HOST", help="Only the HOST of --addr.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="Only the PORT of --addr.")
@click.option("--shutdown-addr", metavar="HOST:PORT", callback=_address,
              help="Shut down on a TCP connection to this address, as on SIGTERM; port 0 takes a free one.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 1024),
              help="Number of processes that share the port.")
@click.option("--timeout", type=POSITIVE_DURATION, metavar="DURATION",
              help="Time limit for a guest to handle a request, as in 500ms, 1s, 2m.  [default: no limit]")
@click.option("--max-concurrent-requests", default=1000, show_default=True, type=click.IntRange(1, _MAX_REQUESTS),
              help="Concurrent requests per worker; more are queued.")
@click.option("--max-concurrent-connections", default=1000, show_default=True, type=click.IntRange(1, _MAX_CONNECTIONS),
              help="Open connections per worker; more wait in the listen backlog.")
@click.option("--max-instance-reuse-count", default=1, show_default=True, type=click.IntRange(1),
              help="Requests that an instance serves, one at a time, before it is discarded.")
@click.option("--idle-instance-timeout", default="1s", show_default=True, type=DURATION, metavar="DURATION",
              help="How long an idle instance is kept for another request.")
@click.option("--max-memory-size", default="256MiB", show_default=True, type=MEMORY_SIZE, metavar="SIZE",
              help="Largest linear memory of a guest, as in 64MiB, 64M or 1GiB.")
@click.option("--max-resources", default=20_000, show_default=True, type=click.IntRange(1, _MAX_HANDLES),
              help="Handles that a guest may hold.")
@click.option("--max-request-body", type=SIZE, metavar="SIZE",
              help="Largest request body.  [default: no limit]")
@click.option("--queue-timeout", default="30s", show_default=True, type=POSITIVE_DURATION, metavar="DURATION",
              help="How long a request may be queued before it is answered with 503.")
@click.option("--client-gone-grace", default="5s", show_default=True, type=DURATION, metavar="DURATION",
              help="How long a guest may clean up after its client has disconnected.")
@click.option("--header-timeout", default="30s", show_default=True, type=POSITIVE_DURATION, metavar="DURATION",
              help="How long a client may take to send a request head.")
@click.option("--idle-timeout", default="75s", show_default=True, type=POSITIVE_DURATION, metavar="DURATION",
              help="How long a connection may be idle.")
@click.option("--min-body-rate", default=500, show_default=True, type=click.IntRange(0, _MAX_RATE), metavar="BYTES",
              help="Bytes per second of a body that a client must send or receive, on average over the idle timeout; "
                   "0 for no rate.")
@click.option("--shutdown-timeout", default="30s", show_default=True, type=DURATION, metavar="DURATION",
              help="How long in-flight requests may take to finish after SIGINT or SIGTERM.")
@click.option("-H", "--header", "request_headers", multiple=True, metavar="NAME:VALUE", callback=_headers,
              help="A header that replaces the client's of that name; @FILE has one per line.")
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", callback=_environment,
              help="A variable of the guests' environment; without a value, the server's.")
@click.option("--allow-egress", multiple=True, metavar="HOST[:PORT]", callback=_egress,
              help="Allow guests to send requests to a host, *.DOMAIN, an address or network, or 'all' for every public "
                   "address.  [default: nowhere]")
@click.option("--max-egress-connections", default=100, show_default=True, type=click.IntRange(1, _MAX_CONNECTIONS),
              help="Concurrent connections of a guest's outgoing requests.")
@click.option("--egress-ca-bundle", type=_FILE, metavar="FILE",
              help="Certificates (PEM) to trust in guests' outgoing requests, besides the system's.")
@click.option("--egress-client-cert", type=_FILE, metavar="FILE",
              help="Client certificate (PEM) for mutual TLS in guests' outgoing requests.")
@click.option("--egress-client-key", type=_FILE, metavar="FILE",
              help="Key of the client certificate, if it is in another file.")
@click.option("--egress-proxy-from-env", is_flag=True,
              help="Send guests' requests through the proxies that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY "
                   "name. The proxy then resolves host names.")
@click.option("--access-log", metavar="FILE", help="Append a line for each request to FILE; - is standard output.")
@click.option("--no-logging-prefix", is_flag=True, help="Print the output of guests without prefixes.")
@click.option("--trust-guest", is_flag=True,
              help="Compile without the checks that interrupt guests. They compute faster, but while one does, nothing "
                   "stops it, not even --timeout, and no other request is served.")
@click.option("--compile-timeout", default="5m", show_default=True, type=POSITIVE_DURATION, metavar="DURATION",
              help="How long the component may take to compile.")
@click.option("--cache-dir", type=click.Path(file_okay=False), metavar="DIR",
              help="Where compiled components are cached; see `wasi-http compile`.  [default: the user's cache directory]")
@click.option("--no-cache", is_flag=True, help="Compile at each start, and write nothing to disk.")
@click.pass_context
def serve(context: click.Context, /, file: Path, **options: Any) -> None:
    """Serves FILE, a component of the world wasi:http/proxy, over HTTP/1.1.

    Each request is handled by a fresh instance, unless --max-instance-reuse-count allows reuse. FILE is a binary (.wasm)
    or text (.wat) component. Guests have no files, and no environment or network unless options grant them.
    """
    from wasi_http.engine import EngineConfig, StoreLimits
    from wasi_http.http1.limits import Limits
    from wasi_http.server.config import ServerConfig
    from wasi_http.server.process import Setup, run

    address = listening_address(context, options)
    config = ServerConfig(
        env=options["env"],
        timeout=options["timeout"],
        max_concurrent_requests=options["max_concurrent_requests"],
        max_concurrent_connections=options["max_concurrent_connections"],
        queue_timeout=options["queue_timeout"],
        client_gone_grace=options["client_gone_grace"],
        header_timeout=options["header_timeout"],
        idle_timeout=options["idle_timeout"],
        min_body_rate=options["min_body_rate"],
        shutdown_timeout=options["shutdown_timeout"],
        max_instance_reuse_count=options["max_instance_reuse_count"],
        idle_instance_timeout=options["idle_instance_timeout"],
        request_headers=options["request_headers"],
        max_resources=options["max_resources"],
        egress=options["allow_egress"],
        max_egress_connections=options["max_egress_connections"],
        client=_client(options),
        logging_prefix=not options["no_logging_prefix"],
        store_limits=StoreLimits(memory_size=options["max_memory_size"]),
        wire_limits=Limits(body=options["max_request_body"]),
    )
    engine = EngineConfig(
        interruptible=not options["trust_guest"],
        isolate_compilation=True,
        compile_timeout=options["compile_timeout"],
        cache=not options["no_cache"],
        cache_directory=options["cache_dir"],
    )
    setup = Setup(os.fspath(file), address, options["workers"], config, engine, options["shutdown_addr"], options["access_log"])
    with failures_of(file), progress_display(str(file)) as progress:
        run(setup, progress)
