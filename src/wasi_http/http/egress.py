"""Where guests may send requests: the rules of `net.policy`, put before the client of the hook ``send_request``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from wasi_http.client import OutgoingRequestConfig
from wasi_http.engine.errors import expect
from wasi_http.http.errors import HttpError
from wasi_http.http.message import Request, Response
from wasi_http.http.send import Client, default_send_request
from wasi_http.http.values import ErrorCode
from wasi_http.net.authority import Address, InvalidAuthority, Origin
from wasi_http.net.policy import AddressPolicy, Denied, EgressRule, policy_of

__all__ = ["Egress", "EgressDenied"]

# How many targets are remembered with what they may connect to.
_MAX_CHECKED: Final = 1024


class EgressDenied(HttpError):
    """The policy does not let a request out; ``rule`` is the text of a rule that would, None if there is none."""

    def __init__(self, code: ErrorCode, message: str, rule: str | None = None) -> None:
        super().__init__(code, message)
        self.rule = rule

    def __reduce__(self) -> tuple[type[EgressDenied], Any]:
        return type(self), (self.code, str(self), self.rule)


class Egress:
    """A policy. It may be shared and pickled. Without rules nothing gets out."""

    __slots__ = ("_checked", "rules")

    def __init__(self, rules: Iterable[EgressRule] = ()) -> None:
        self.rules = tuple(rules)
        for rule in self.rules:
            expect(EgressRule, rule, "Egress.parse('example.com', '10.0.0.0/8:443')")
        self._checked: dict[tuple[str, bool], AddressPolicy] = {}

    @classmethod
    def parse(cls, *texts: str) -> Egress:
        """A policy of rules as text, see `EgressRule.parse`. Raises ValueError that names the first that is none."""
        return cls(map(EgressRule.parse, texts))

    def __repr__(self) -> str:
        return f"Egress.parse({', '.join(repr(str(rule)) for rule in self.rules)})"

    def __reduce__(self) -> tuple[type[Egress], Any]:
        return type(self), (self.rules,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Egress) and self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)

    def check(self, request: Request, config: OutgoingRequestConfig) -> AddressPolicy:
        """Whether a request may be sent: raises EgressDenied, or gives the check of what it may connect to.

        The caller must pass every resolved address and port to the returned check, which raises as well, and connect to
        exactly that address; never resolve the name again. `send_request` does so.
        """
        key = request.authority or "", config.use_tls
        admit = self._checked.get(key)
        if admit is None:
            admit = self._check(*key)
            if len(self._checked) >= _MAX_CHECKED:
                self._checked.clear()
            self._checked[key] = admit
        return admit

    def _check(self, authority: str, use_tls: bool) -> AddressPolicy:
        try:
            target = Origin.parse(authority, use_tls)
            policy = policy_of(self.rules, target)
        except InvalidAuthority:
            raise _denied(ErrorCode.HttpRequestDenied, authority, ": it names no host", None) from None
        except Denied as denied:
            raise _denied(ErrorCode.HttpRequestDenied, authority, "", denied.rule) from None

        def admit(address: Address, port: int) -> None:
            try:
                policy(address, port)
            except Denied as denied:
                why = f", as it leads to {address}" if target.address is None else ""
                raise _denied(ErrorCode.DestinationIpProhibited, authority, why, denied.rule) from None

        return admit

    def send_request(
        self, request: Request, config: OutgoingRequestConfig, client: Client | None = None
    ) -> asyncio.Future[Response]:
        """Sends a request if the policy lets it: for an override of `WasiHttpView.send_request`.

        Raises EgressDenied with ``HTTP-request-denied`` when no rule names the target; awaiting the response does so
        with ``destination-IP-prohibited`` when the target leads to no address that is allowed. ``client`` sends it
        instead of the one that all share.
        """
        send = default_send_request if client is None else client.send_request
        return send(request, config, admit=self.check(request, config))


def _denied(code: ErrorCode, authority: str, why: str, rule: str | None) -> EgressDenied:
    shown = authority if len(authority) <= 300 else f"{authority[:300]}…"
    return EgressDenied(code, f"a guest's request to {shown!r} was denied{why}", rule)
