"""Sending requests: a client of this package's messages and errors."""

from __future__ import annotations

import asyncio
from typing import Final

from wasi_http.client import Client as PlainClient
from wasi_http.client import ClientConfig, OutgoingRequestConfig
from wasi_http.flow.pipe import Pipe
from wasi_http.http.errors import HttpError
from wasi_http.http.fields import Field
from wasi_http.http.message import Body, Request, Response
from wasi_http.net.policy import AddressPolicy

__all__ = ["Client", "default_send_request"]


def _response(status: int, headers: list[Field], body: Pipe) -> Response:
    return Response.of(status, headers, Body(body))


class Client(PlainClient[Response]):
    """Takes a `Request`, gives a `Response`, and fails with `HttpError`: so do futures and both bodies."""

    def __init__(self, config: ClientConfig | None = None) -> None:
        """Raises OSError for files of `TlsConfig` that cannot be used."""
        super().__init__(config, respond=_response, failure=HttpError.of)


_client: Final = Client()


def default_send_request(
    request: Request, config: OutgoingRequestConfig, *, admit: AddressPolicy | None = None
) -> asyncio.Future[Response]:
    """`Client.send_request` of a client with the default settings, which all callers share.

    There is no policy here, unless ``admit`` is one.
    """
    return _client.send_request(request, config, admit=admit)
