"""The service of a server: what its guests print, and what there is to say of them, goes to the server's log."""

from __future__ import annotations

from typing import Any, Final

from wasi_http.engine import Engine
from wasi_http.engine.errors import visible
from wasi_http.http.egress import EgressDenied
from wasi_http.server.config import ServerConfig
from wasi_http.server.log import GuestOutput, Log, cut, visible_lines
from wasi_http.server.spool import Spool
from wasi_http.service.guest import Guest
from wasi_http.service.proxy import ProxyPre
from wasi_http.service.run import Run
from wasi_http.service.service import Service
from wasi_http.wasi.context import WasiCtx
from wasi_http.wasi.io import LinePrefix

__all__ = ["GuestCtx", "Guests"]

# Of a method or path in the log, in characters.
_MAX_PART: Final = 200


class Guests(Service):
    """``worker`` tells the numbers of its requests from those of other workers, ``output`` is where they are written
    about (the standard streams of the process)."""

    config: ServerConfig

    def __init__(
        self,
        engine: Engine,
        pre: ProxyPre,
        config: ServerConfig,
        worker: int | None = None,
        output: Log | None = None,
    ) -> None:
        super().__init__(engine, pre, config)
        self.output = Log.standard() if output is None else output
        self._numbered = "" if worker is None else f"{worker}-"

    def name(self, number: int) -> str:
        """A request's number as the log has it: no other worker's request has the same."""
        return f"{self._numbered}{number}"

    def new_context(self, number: int) -> WasiCtx:
        return GuestCtx(self, number)  # type: ignore[return-value]  # it behaves like one

    def renumber(self, guest: Guest, number: int) -> None:
        guest.ctx.renumber(number)  # type: ignore[attr-defined]  # it is a GuestCtx

    def end(self, guest: Guest) -> None:
        ctx: GuestCtx = guest.ctx  # type: ignore[assignment]
        if ctx.sinks is not None:
            ctx.close()

    def report(self, run: Run, text: str) -> None:
        """Logs why a request failed. What the client sent of it is cut."""
        method, path = (visible(cut(part, _MAX_PART)) for part in (run.request.method, run.request.path))
        self.log(f"error: request {self.name(run.number)} {method} {path}: {text}")

    def denied(self, denied: EgressDenied) -> None:
        self.log(f"{denied}; allow it with --allow-egress {denied.rule}" if denied.rule else str(denied))

    def log(self, text: str) -> None:
        """A line on the server's standard error; see `Log.line`."""
        self.output.line(text)


class GuestCtx:
    """The shared context with standard streams of a request's own; their sinks are made when a guest first prints.

    Lines are prefixed, and control characters in them made visible. What is printed as it is has neither, unless a
    terminal would act upon it.
    """

    __slots__ = ("_guests", "_number", "sinks")

    def __init__(self, guests: Guests, number: int) -> None:
        self._guests = guests
        self._number = number
        self.sinks: dict[str, LinePrefix] | None = None

    def __getattr__(self, name: str) -> Any:
        # One is made for each request, and most guests ask for next to nothing.
        return getattr(self._guests.ctx, name)

    @property
    def stdout(self) -> GuestOutput:
        return self._stream("stdout", self._guests.output.stdout)

    @property
    def stderr(self) -> GuestOutput:
        return self._stream("stderr", self._guests.output.stderr)

    def _stream(self, name: str, spool: Spool) -> GuestOutput:
        if not self._guests.config.logging_prefix and not spool.terminal:
            return GuestOutput(spool, spool.write)
        if self.sinks is None:
            self.sinks = {}
        sink = self.sinks.get(name)
        if sink is None:
            prefix = self._prefix(name)
            sink = self.sinks[name] = LinePrefix(lambda data: spool.write(visible_lines(data)), prefix)
        return GuestOutput(spool, sink)

    def _prefix(self, name: str) -> bytes:
        if not self._guests.config.logging_prefix:
            return b""
        return f"{name} [{self._guests.name(self._number)}] :: ".encode()

    def renumber(self, number: int) -> None:
        """What is printed from now on belongs to another request, whichever handle it is printed to."""
        self._number = number
        if self.sinks is not None:
            for name, sink in self.sinks.items():
                sink.prefix = self._prefix(name)

    def close(self) -> None:
        """Writes unfinished lines."""
        if self.sinks is not None:
            for sink in self.sinks.values():
                sink.close()
