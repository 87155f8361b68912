"""Sending requests for guests: a client whose failures are `HttpError`."""

from __future__ import annotations

import asyncio
from typing import Final

from wasi_http.client import Client as PlainClient
from wasi_http.client import ClientRequest, ClientResponse, OutgoingRequestConfig
from wasi_http.http.errors import HttpError
from wasi_http.net.policy import AddressPolicy

__all__ = ["Client", "default_send_request"]


class Client(PlainClient):
    """A `wasi_http.client.Client` that fails with `HttpError`: so do futures and both bodies."""

    failure = staticmethod(HttpError.of)


_client: Final = Client()


def default_send_request(
    request: ClientRequest, config: OutgoingRequestConfig, *, admit: AddressPolicy | None = None
) -> asyncio.Future[ClientResponse]:
    """`Client.send_request` of a client with the default settings, which all callers share.

    There is no policy here, unless ``admit`` is one.
    """
    return _client.send_request(request, config, admit=admit)
