"""Looking up names with the system's resolver, which blocks: threads, and the shares that guests have of them.

A name server that does not answer costs a thread for as long as the system asks it, and that cannot be cancelled. So

* the threads are daemons, apart from the event loop's executor: no shutdown waits for them;
* a name is looked up once at a time, for all who ask for it meanwhile;
* a guest starts another look-up only while it has fewer than its share and fewer than there are threads left: others
  find some whatever it does. The same holds for a domain, whose name servers answer for all below it, or do not: guests
  may be started in great numbers. What does not fit into the shares waits in queues, which take turns.

Answers are not kept: they are put before the policy by who asked, and systems have caches of their own.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections import Counter
from collections.abc import Hashable, Iterable
from contextlib import suppress
from typing import Final

__all__ = ["Lookups"]

_Outcome = list[str] | Exception


# How many names below one domain (of its last two labels) are looked up at once.
_MAX_PER_DOMAIN: Final = 16


class _Lookup:
    """One name; ``guests`` are those in whose queues it is, ``charged`` the one whose share it takes."""

    __slots__ = ("answers", "charged", "domain", "guests", "host", "started")

    def __init__(self, host: str) -> None:
        self.host = host
        self.domain = ".".join(host.rsplit(".", 2)[-2:])
        # Dicts serve as ordered sets.
        self.answers: dict[asyncio.Future[_Outcome], None] = {}
        self.guests: dict[Hashable, None] = {}
        self.charged: Hashable = None
        self.started = False


class Lookups:
    """At most ``limit`` look-ups at once, ``share`` of them for one guest. It may be used by many event loops."""

    def __init__(self, limit: int, share: int) -> None:
        self._limit = limit
        self._share = share
        self._lock = threading.Lock()
        self._known: dict[str, _Lookup] = {}
        # By guest and by domain. Guests take turns in the order of this dict, the domains of each in that of theirs.
        self._queues: dict[Hashable, dict[str, dict[_Lookup, None]]] = {}
        self._started: Counter[Hashable] = Counter()
        self._domains: Counter[str] = Counter()

    async def resolve(self, host: str, guest: Hashable = None) -> list[str]:
        """The addresses of a name. Raises what `socket.getaddrinfo` does, or OSError if there can be no thread.

        ``guest`` identifies whose share is used; all who give None have one together, half of what is left.
        """
        answer: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        with self._lock:
            lookup = self._join(host, guest, answer)
            self._start()
        try:
            outcome = await answer
        except asyncio.CancelledError:
            with self._lock:
                self._leave(lookup, answer)
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    # All of these are called with the lock held.

    def _join(self, host: str, guest: Hashable, answer: asyncio.Future[_Outcome]) -> _Lookup:
        lookup = self._known.get(host)
        if lookup is None:
            lookup = self._known[host] = _Lookup(host)
        lookup.answers[answer] = None
        if not lookup.started and guest not in lookup.guests:
            # Also if it waits in another's queue, which may be long.
            lookup.guests[guest] = None
            self._queues.setdefault(guest, {}).setdefault(lookup.domain, {})[lookup] = None
        return lookup

    def _leave(self, lookup: _Lookup, answer: asyncio.Future[_Outcome]) -> None:
        lookup.answers.pop(answer, None)
        if not lookup.answers and not lookup.started:
            self._dequeue(lookup)
            self._known.pop(lookup.host, None)

    def _dequeue(self, lookup: _Lookup) -> None:
        for guest in lookup.guests:
            domains = self._queues.pop(guest)
            queue = domains.pop(lookup.domain)
            del queue[lookup]
            # Behind the others.
            if queue:
                domains[lookup.domain] = queue
            if domains:
                self._queues[guest] = domains
        lookup.guests.clear()

    def _next(self) -> tuple[Hashable, _Lookup] | None:
        """A look-up that the shares allow, and whose share it is to take."""
        left = self._limit - self._started.total()
        for guest, domains in self._queues.items():
            if self._started[guest] < (left if guest is None else min(left, self._share)):
                for domain, queue in domains.items():
                    if self._domains[domain] < min(left, _MAX_PER_DOMAIN):
                        return guest, next(iter(queue))
        return None

    def _start(self) -> None:
        """Starts what the shares allow."""
        while (found := self._next()) is not None:
            guest, lookup = found
            self._dequeue(lookup)
            lookup.started = True
            lookup.charged = guest
            self._started[lookup.charged] += 1
            self._domains[lookup.domain] += 1
            try:
                threading.Thread(target=self._run, args=(lookup,), name="wasi-http lookup", daemon=True).start()
            except RuntimeError as error:
                _tell(self._finish(lookup), OSError(errno.EAGAIN, f"no thread to look up {lookup.host}: {error}"))

    def _finish(self, lookup: _Lookup) -> Iterable[asyncio.Future[_Outcome]]:
        del self._known[lookup.host]
        self._started -= Counter([lookup.charged])  # keeps no zeros
        self._domains -= Counter([lookup.domain])
        return tuple(lookup.answers)  # who leaves from now on is told, which does no harm

    # In the thread

    def _run(self, lookup: _Lookup) -> None:
        outcome: _Outcome
        try:
            outcome = [str(entry[4][0]) for entry in socket.getaddrinfo(lookup.host, None, type=socket.SOCK_STREAM)]
        except Exception as error:
            outcome = error
        with self._lock:
            answers = self._finish(lookup)
            self._start()
        _tell(answers, outcome)


def _tell(answers: Iterable[asyncio.Future[_Outcome]], outcome: _Outcome) -> None:
    for answer in answers:
        with suppress(RuntimeError):  # the loop is closed
            answer.get_loop().call_soon_threadsafe(_settle, answer, outcome)


def _settle(answer: asyncio.Future[_Outcome], outcome: _Outcome) -> None:
    if not answer.done():
        answer.set_result(outcome)
