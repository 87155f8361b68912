"""Addresses, and all that a name stands for."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Any

import pytest

from wasi_http.server import listeners as module
from wasi_http.server.listeners import authority, bind, listen, resolve


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")


def answering(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """What every name leads to."""

    def getaddrinfo(host: object, port: int, **_: object) -> list[Any]:
        return [
            (socket.AF_INET6, 1, 6, "", (host, port, 0, 0)) if ":" in host else (socket.AF_INET, 1, 6, "", (host, port))
            for host in hosts
        ]

    monkeypatch.setattr(module.socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", pytest.param("::1", marks=needs_ipv6)])
def test_listen(host: str) -> None:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in listen(host, 0, 10)]
        (port,) = {listener.getsockname()[1] for listener in listeners}
        assert port
        for listener in listeners:
            reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.getsockname()[0], listener.getsockname()[0])
            socket.create_connection((reached, port)).close()
            listener.accept()[0].close()
        with pytest.raises(OSError, match="in use"):
            bind(resolve(host, port))


@needs_ipv6
@pytest.mark.parametrize("reuse_port", [False, True])
def test_no_host_is_both_families(reuse_port: bool) -> None:
    listeners = bind(resolve("", 0), reuse_port=reuse_port)
    try:
        port = listeners[0].getsockname()[1]
        assert {authority(listener) for listener in listeners} == {f"0.0.0.0:{port}", f"[::]:{port}"}
        if reuse_port:
            for listener in bind([(int(one.family), one.getsockname()) for one in listeners], reuse_port=True):
                listener.close()
    finally:
        for listener in listeners:
            listener.close()


@needs_ipv6
def test_a_name_is_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "::1", "127.0.0.1", "127.0.0.1")
    listeners = listen("name", 0, 10)
    port = listeners[0].getsockname()[1]
    assert [authority(listener) for listener in listeners] == [f"[::1]:{port}", f"127.0.0.1:{port}"]
    for listener in listeners:
        listener.close()


def test_an_address_in_use_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.2", 0)) as busy:
        port = busy.getsockname()[1]
        answering(monkeypatch, "127.0.0.1", "127.0.0.2")
        with pytest.raises(OSError, match="in use") as caught:
            bind(resolve("name", port))
        assert caught.value.filename == f"127.0.0.2:{port}"
        # Nothing is left of the one that was free.
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_addresses_that_are_not_here_are_left_out(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real = module._bind

    def elsewhere(family: int, address: tuple[Any, ...], *rest: bool) -> socket.socket:
        if address[0] == "127.0.0.1":
            return real(family, address, *rest)
        raise OSError(code, "not here")

    monkeypatch.setattr(module, "_bind", elsewhere)
    answering(monkeypatch, "::1", "192.0.2.1", "127.0.0.1")
    (listener,) = bind(resolve("name", 0))
    listener.close()
    answering(monkeypatch, "192.0.2.1", "::1")
    with pytest.raises(OSError, match="not here") as caught:
        bind(resolve("name", 80))
    assert caught.value.filename == "192.0.2.1:80"


def test_a_free_port_is_free_at_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "127.0.0.1", "127.0.0.2")
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            one, other = (stack.enter_context(listener) for listener in bind(resolve("name", 0)))
            assert one.getsockname()[1] == other.getsockname()[1]


class Named:
    def __init__(self, *name: object) -> None:
        self.getsockname = lambda: name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 8080, 0, 0), "[::1]:8080"),
        (("fe80::1%eth0", 80, 0, 2), "[fe80::1%25eth0]:80"),
    ],
)
def test_addresses_in_urls(name: tuple[object, ...], shown: str) -> None:
    assert authority(Named(*name)) == shown  # type: ignore[arg-type]
