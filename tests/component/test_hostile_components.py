"""Components that are hostile as a whole, or damaged: whatever they are, the host raises one of its own errors."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass, field

import pytest

from tests.component.decode.test_decoder import BINARIES
from tests.component.mutation import mutant
from tests.guests.build import build, unavailable
from tests.guests.evil import COMPONENTS, Expected
from tests.guests.evil import Component as Evil
from wasi_http.component import (
    Component,
    InstancePre,
    Interface,
    InvalidComponent,
    Linker,
    LinkError,
    ResourceTable,
    func,
)
from wasi_http.engine import Engine, Store, Trap
from wasi_http.http.linking import add_to_linker_async
from wasi_http.wasi.context import WasiCtx

pytestmark = pytest.mark.usefixtures("no_leaks")

REFUSALS = (InvalidComponent, LinkError, Trap)
SLICES = 3  # after so many time slices without an end a call counts as endless


@dataclass
class View:
    table: ResourceTable = field(default_factory=ResourceTable)
    ctx: WasiCtx = field(default_factory=WasiCtx)


class Run(Interface, name="test:evil/run"):
    @func
    def run() -> None: ...


@pytest.fixture(scope="module")
def linker(engine: Engine) -> Linker:
    made = Linker(engine)
    add_to_linker_async(made)
    return made


def instantiate(linker: Linker, binary: bytes) -> tuple[InstancePre, Store]:
    pre = linker.instantiate_pre(Component(linker.engine, binary))
    store = Store(linker.engine, View())
    try:
        pre.instantiate(store)
    except BaseException:
        store.close()
        raise
    return pre, store


# Hostile from the start


def end(linker: Linker, evil: Evil) -> Expected:
    """What becomes of the component."""
    try:
        pre, store = instantiate(linker, evil.binary())
    except REFUSALS as refusal:
        if isinstance(refusal, Trap) and "start_time_limit" in refusal.message:
            return Expected.ENDLESS
        return Expected.TRAP if isinstance(refusal, Trap) else Expected.REFUSED
    with contextlib.closing(store):
        if "test:evil/run" not in pre.component.exports:
            return Expected.FINE
        call = pre.export(Run)["run"].start(store)
        try:
            for _ in range(SLICES):
                if call.poll():
                    return Expected.FINE
        except Trap:
            return Expected.TRAP
        call.close()
        return Expected.ENDLESS


ALLOWED = {
    Expected.FINE: {Expected.FINE},
    Expected.TRAP: {Expected.TRAP},
    Expected.ENDLESS: {Expected.ENDLESS},
    Expected.REFUSED: {Expected.REFUSED, Expected.TRAP},
    Expected.FINE_OR_REFUSED: {Expected.FINE, Expected.REFUSED, Expected.TRAP},
}


@pytest.mark.parametrize("evil", COMPONENTS.values(), ids=COMPONENTS)
def test_a_hostile_component(linker: Linker, evil: Evil) -> None:
    started = time.process_time()
    assert end(linker, evil) in ALLOWED[evil.expected]
    # Generous: the slowest takes the second that start functions are given.
    assert time.process_time() - started < 15


# Damaged ones

NAMES = ["wat_hello", "c_hello", "abi", "abi_utf16"]
CASES = 400  # from each component; a campaign of half a million cases found nothing that these do not stand for


def survives(linker: Linker, binary: bytes) -> str:
    """How far the component comes; anything that is raised and is none of the host's own errors goes through."""
    try:
        Component(linker.engine, binary)
    except InvalidComponent as refusal:
        return "invalid" if 0 <= refusal.offset <= len(binary) else "invalid somewhere outside"
    try:
        instantiate(linker, binary)[1].close()
    except REFUSALS:
        return "refused"
    return "runs"


@pytest.mark.parametrize("name", NAMES)
def test_damaged_components(linker: Linker, name: str) -> None:
    if unavailable(name):
        pytest.skip(str(unavailable(name)))
    good = build(name).read_bytes()
    source = random.Random(name)
    ends = set()
    slowest = 0.0
    for _ in range(CASES // 8 if len(good) > 100_000 else CASES):
        damaged = mutant(source, good, source.choice(BINARIES))
        started = time.process_time()
        ends.add(survives(linker, damaged))
        slowest = max(slowest, time.process_time() - started)
    # Damage that is always noticed at the first byte would test nothing behind it.
    assert "invalid somewhere outside" not in ends
    assert {"invalid", "runs"} <= ends or len(good) > 100_000
    assert slowest < 10


def test_damaged_small_components(linker: Linker) -> None:
    """Each has little in it but what it is about, so that damage goes there."""
    source = random.Random(1)
    ends = set()
    for good in BINARIES:
        for _ in range(60):
            ends.add(survives(linker, mutant(source, good, source.choice(BINARIES))))
    assert ends - {"refused"} == {"invalid", "runs"}


def test_every_beginning_of_a_component(linker: Linker) -> None:
    """A component that is cut between two sections is whole, or wants what is missing; anywhere else it is broken."""
    if unavailable("wat_hello"):
        pytest.skip(str(unavailable("wat_hello")))
    good = build("wat_hello").read_bytes()
    for length in range(0, len(good), 7):
        survives(linker, good[:length])


def test_every_bit_of_a_small_component(linker: Linker) -> None:
    good = min((binary for binary in BINARIES if len(binary) > 100), key=len)
    for place in range(len(good) * 8):
        flipped = bytearray(good)
        flipped[place // 8] ^= 1 << place % 8
        survives(linker, bytes(flipped))
