"""What attacks have in common: rounds that can be repeated, and what must hold after each of them."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import count

from tests.guests.build import build
from tests.server.serving import Guests, live
from wasi_http.bindings import ProxyPre
from wasi_http.component import Component, Linker
from wasi_http.engine import Engine
from wasi_http.http.linking import add_to_linker_async

__all__ = ["Attack", "Field", "Round", "campaign"]

#: One round of an attack: raises AssertionError, or whatever it should not have met.
Round = Callable[[random.Random], None]


class Field:
    """What attacks are made on: one engine, and the guests of the tests on it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._loaded: dict[str, ProxyPre] = {}

    @cached_property
    def guests(self) -> Guests:
        return Guests(self.engine, self._load)

    def _load(self, name: str) -> ProxyPre:
        if name not in self._loaded:
            linker = Linker(self.engine)
            add_to_linker_async(linker)
            component = Component.from_file(self.engine, build(name))
            self._loaded[name] = ProxyPre(linker.instantiate_pre(component))
        return self._loaded[name]


@dataclass(frozen=True)
class Attack:
    """``open(field)`` sets up and gives the round; ``rounds`` is how many the test run does.

    ``longest`` bounds the processor time of a round, in seconds: far more than any takes on a slow machine.
    """

    name: str
    open: Callable[[Field], AbstractContextManager[Round]]
    rounds: int
    longest: float


def campaign(attack: Attack, field: Field, seed: int, rounds: Iterator[int] | None = None) -> Iterator[int]:
    """Carries out one round after another and gives its number. What a round raises carries how to repeat it.

    Nothing of a guest is left after a round.
    """
    with attack.open(field) as attack_once:
        for number in count() if rounds is None else rounds:
            before = live()
            started = time.process_time()
            try:
                attack_once(random.Random(f"{attack.name} {seed} {number}"))
                if live() != before:
                    gc.collect()
                assert all(now <= then for now, then in zip(live(), before, strict=True)), (live(), before)
                took = time.process_time() - started
                assert took < attack.longest, f"the round took {took:.1f} s of processor time"
            except BaseException as failure:
                failure.add_note(f"repeat: python -m tests.attack {attack.name} --seed {seed} --round {number}")
                raise
            yield number
