"""Looks names up with the system's resolver, which blocks: in threads, which guests share fairly.

A name server that does not respond occupies a thread until the system gives up, and that cannot be cancelled. So

* the threads are daemons, apart from the event loop's executor: shutdown does not wait for them;
* concurrent look-ups of a name share one thread;
* a guest starts another look-up only while it has fewer than its share and fewer than there are threads left, so some
  are always left to others. The same holds for a domain, whose name servers serve all names below it, because an
  attacker may start many guests. Further look-ups wait in queues, which take turns.

Results are not cached: the caller checks them against its policy, and systems have caches.
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


# The most concurrent look-ups below one domain (of two labels).
_MAX_PER_DOMAIN: Final = 16


class _Lookup:
    """One name; ``guests`` are those that queue for it, ``charged`` the one whose share it takes."""

    __slots__ = ("answers", "charged", "domain", "guests", "host", "started")

    def __init__(self, host: str) -> None:
        self.host = host
        self.domain = ".".join(host.rsplit(".", 2)[-2:])
        # Dicts used as ordered sets.
        self.answers: dict[asyncio.Future[_Outcome], None] = {}
        self.guests: dict[Hashable, None] = {}
        self.charged: Hashable = None
        self.started = False


class Lookups:
    """At most ``limit`` concurrent look-ups, ``share`` of them for one guest. It may serve many event loops."""

    def __init__(self, limit: int, share: int) -> None:
        self._limit = limit
        self._share = share
        self._lock = threading.Lock()
        self._known: dict[str, _Lookup] = {}
        # By guest and by domain. Guests take turns in the order of this dict, the domains of each in that of its dict.
        self._queues: dict[Hashable, dict[str, dict[_Lookup, None]]] = {}
        self._started: Counter[Hashable] = Counter()
        self._domains: Counter[str] = Counter()

    async def resolve(self, host: str, guest: Hashable = None) -> list[str]:
        """Returns the addresses of a name. Raises as `socket.getaddrinfo` does, and OSError if no thread can start.

        ``guest`` identifies the share to use; all calls with None have one together, half of what is left.
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
            # Also if it is in another guest's queue, which may be long.
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
            # To the end of the queue.
            if queue:
                domains[lookup.domain] = queue
            if domains:
                self._queues[guest] = domains
        lookup.guests.clear()

    def _next(self) -> tuple[Hashable, _Lookup] | None:
        """Returns a look-up that the shares allow, and the guest whose share it takes."""
        left = self._limit - self._started.total()
        for guest, domains in self._queues.items():
            if self._started[guest] < (left if guest is None else min(left, self._share)):
                for domain, queue in domains.items():
                    if self._domains[domain] < min(left, _MAX_PER_DOMAIN):
                        return guest, next(iter(queue))
        return None

    def _start(self) -> None:
        """Starts the look-ups that the shares allow."""
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
        return tuple(lookup.answers)  # later cancellations are notified, too, which is harmless

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
