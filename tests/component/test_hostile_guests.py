"""Guests that break the rules of the canonical ABI: each is stopped by a `Trap`, and nothing else happens."""

from __future__ import annotations

from typing import Any

import pytest

from tests.component.abi_world import Guest, Thing, World
from tests.guests.build import unavailable
from tests.guests.evil import CALLS, LAST, THING, Case, Expected, Step
from wasi_http.component import Call, ResourceTable
from wasi_http.engine import Trap

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(unavailable("abi") is not None, reason=str(unavailable("abi"))),
]

SLICES = 3  # after so many time slices without an end a call counts as endless


class Arguments:
    """Puts values in the place of what a case cannot know."""

    def __init__(self) -> None:
        self.things: list[Thing] = []
        self.last: Any = None

    def of(self, step: Step) -> list[Any]:
        return [self.value(argument) for argument in step.arguments]

    def value(self, argument: Any) -> Any:
        if argument is THING:
            self.things.append(Thing(len(self.things)))
            return self.things[-1]
        return self.last if argument is LAST else argument


def finish(call: Call) -> Any:
    while not call.poll():
        pass
    return call.result


def run(guest: Guest, case: Case) -> None:
    """Carries out a case and checks how it ends."""
    arguments = Arguments()
    for step in case.steps[:-1]:
        arguments.last = guest.call(step.interface, step.function, *arguments.of(step))
    last = case.steps[-1]
    call = guest.start(last.interface, last.function, *arguments.of(last))
    match case.expected:
        case Expected.FINE:
            finish(call)
            return
        case Expected.TRAP:
            with pytest.raises(Trap) as caught:
                finish(call)
            assert caught.value.message
        case Expected.ENDLESS:
            assert not any(call.poll() for _ in range(SLICES))
            call.close()
        case expected:
            raise AssertionError(expected)
    with pytest.raises(RuntimeError, match="the store is spent"):
        guest.start("raw", "reallocs")
    guest.store.close()
    assert all(thing.drops <= 1 for thing in arguments.things)


@pytest.mark.parametrize("case", CALLS.values(), ids=CALLS)
def test_a_hostile_call(world: World, case: Case) -> None:
    with world.guest(case.guest, ResourceTable(10_000)) as guest:
        run(guest, case)


#: What the traps say: whoever has to find the guest's fault needs to know which rule it broke.
MESSAGES = [
    ("string past the end of memory", "pointer out of bounds: 1 bytes at 131072 in a memory of 131072"),
    ("UTF-8: surrogate", "a string is not UTF-8"),
    ("UTF-16: odd pointer", "pointer 1025 is not aligned to 2"),
    ("misaligned list", "pointer 4 is not aligned to 8"),
    ("char: first surrogate", "0xd800 is not a Unicode scalar value"),
    ("enum: past the last case", "discriminant 3 is out of range"),
    ("realloc: misaligned", "realloc returned 8193, which is not aligned to 4"),
    ("realloc: calls the host", "cannot leave the component instance"),
    ("post-return: calls the host", "cannot leave the component instance"),
    ("unknown handle: called", "unknown handle index 77"),
    ("handle: dropped as another type", "used with the wrong type: expected other but found thing"),
    ("own: given away twice", "unknown handle index"),
    ("own: given away while lent", "a call that is running has borrowed it"),
    ("borrow: kept", "borrow handles still remain at the end of the call"),
    ("borrow: given away as own", "it is borrowed"),
    ("more handles than anyone needs", "the limit of 10000 resources is reached"),
]


@pytest.mark.parametrize(("name", "message"), MESSAGES, ids=[name for name, _ in MESSAGES])
def test_traps_name_the_rule(world: World, name: str, message: str) -> None:
    case = CALLS[name]
    with world.guest(case.guest, ResourceTable(10_000)) as guest:
        arguments = Arguments()
        for step in case.steps[:-1]:
            arguments.last = guest.call(step.interface, step.function, *arguments.of(step))
        last = case.steps[-1]
        with pytest.raises(Trap) as caught:
            guest.call(last.interface, last.function, *arguments.of(last))
        assert message in caught.value.message


def test_values_that_cost_the_host_too_much(world: World) -> None:
    """A byte of a guest can become an object of sixty on the host; the budget is the store's, for each call anew."""
    with world.guest("abi", ResourceTable(value_limit=10_000)) as guest:
        for _ in range(20):
            assert len(guest.call("images", "string-at", 0, 20)) == 20
        with pytest.raises(Trap, match="the values of one call take more than 10000 bytes on the host"):
            guest.call("images", "string-at", 0, 1000)
    with world.guest("abi", ResourceTable(value_limit=10_000)) as guest, pytest.raises(Trap, match="10000 bytes"):
        # An argument of an import, this time.
        guest.call("raw", "send-list-string", 0, 1000)
    with world.guest("abi") as guest:
        assert len(guest.call("images", "string-at", 0, 1000)) == 1000


@pytest.mark.parametrize("limit", [0, -1, 1 << 32])
def test_limits_that_make_no_sense(limit: int) -> None:
    with pytest.raises(ValueError, match="the limit of the values of a call must be 1 to"):
        ResourceTable(value_limit=limit)


def test_a_store_cannot_be_entered_while_its_guest_runs(world: World) -> None:
    """A host function that calls back into the guest that called it."""
    guest = world.guest()
    host = guest.linked.host

    class Reentering(list[Any]):
        def append(self, _: Any) -> None:
            guest.call("raw", "reallocs")

    seen, host.seen = host.seen, Reentering()
    try:
        with pytest.raises(RuntimeError, match="the store is busy with another call"):
            guest.call("guest", "echo-u8", 1)
    finally:
        host.seen = seen
        guest.store.close()


def test_a_second_call_while_the_first_is_under_way(world: World) -> None:
    with world.guest() as guest:
        guest.call("raw", "set-realloc", 5, 0, 0)
        call = guest.start("guest", "echo-string", "x")
        assert not call.poll()
        with pytest.raises(RuntimeError, match="the store is busy with another call"):
            guest.start("raw", "reallocs")
        call.close()
