"""Every value type, both ways through real guests: from the host to the guest, on to the host, and all the way back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.component.abi_world import Guest, LargeEnum, SmallEnum, Thing, World, python_type
from tests.component.strategies import values
from tests.guests.abi import MANY, TYPES
from tests.guests.build import unavailable
from wasi_http.component import Err, Ok, Some
from wasi_http.component.abi.layout import contains_pointer, size
from wasi_http.component.declare.annotations import value_type
from wasi_http.component.model.types import ListType, ResultType, TupleType

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(unavailable("abi") is not None, reason=str(unavailable("abi"))),
]

GUESTS = {"utf8": "abi", "utf16": "abi_utf16", "latin1+utf16": "abi_latin1"}
TYPED = {name: value_type(python_type(type_)) for name, type_ in TYPES.items()}

# One store serves all examples of a test: what is drawn is the same in any order.
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(guest: Guest, interface: str, function: str, *arguments: Any) -> Any:
    """The result of a call; of one that has a result<T, E>, `Ok` or `Err`."""
    lifted = guest.linked.functions[interface][function]
    try:
        value = guest.call(interface, function, *arguments)
    except Err as error:
        return error
    return Ok(value) if isinstance(lifted.signature.type.result, ResultType) else value


def same(one: Any, other: Any) -> bool:
    """Equal in writing: NaN is NaN then, and -0.0 is not 0.0."""
    return repr(one) == repr(other)


# Guests' strings are the only thing that an encoding changes.
CASES = [
    (name, encoding)
    for name, type_ in TYPES.items()
    for encoding in GUESTS
    if encoding == "utf8" or any(word in type_ for word in ("string", "mixed", "nested", "wide", "choice"))
]


@pytest.mark.parametrize(("name", "encoding"), CASES)
def test_values_go_through_the_guest_and_come_back(world: World, name: str, encoding: str) -> None:
    with world.guest(GUESTS[encoding]) as guest:

        @settings(SHARED, max_examples=20)
        @given(values(TYPED[name]))
        def echo(value: Any) -> None:
            guest.seen.clear()
            assert same(outcome(guest, "guest", f"echo-{name}", value), value)
            assert len(guest.seen) == 1
            assert same(guest.seen[0], value)

        echo()
        if contains_pointer(TYPED[name]):
            assert guest.call("raw", "post-returns") > 0


@pytest.mark.parametrize("encoding", GUESTS)
def test_many_arguments_go_through_memory(world: World, encoding: str) -> None:
    many = TupleType(tuple(value_type(python_type(type_)) for type_ in MANY))
    with world.guest(GUESTS[encoding]) as guest:

        @settings(SHARED, max_examples=20)
        @given(values(many))
        def echo(arguments: tuple[Any, ...]) -> None:
            guest.seen.clear()
            assert same(guest.call("guest", "echo-many", *arguments), arguments)
            assert same(guest.seen, [arguments])

        echo()


#: What a random choice would miss.
CORNERS: list[tuple[str, Any]] = [
    *(("f32", x) for x in (0.0, -0.0, math.inf, -math.inf, math.nan, 2.0**-149, 3.4028234663852886e38)),
    *(("f64", x) for x in (0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308)),
    *(("u8", x) for x in (0, 255)),
    *(("s8", x) for x in (-128, 127)),
    *(("u16", x) for x in (0, 65535)),
    *(("s16", x) for x in (-32768, 32767)),
    *(("u32", x) for x in (0, 2**32 - 1)),
    *(("s32", x) for x in (-(2**31), 2**31 - 1)),
    *(("u64", x) for x in (0, 2**63, 2**64 - 1)),
    *(("s64", x) for x in (-(2**63), 2**63 - 1)),
    *(("char", x) for x in ("\0", "\ud7ff", "\ue000", "\U0010ffff")),
    *(("string", x) for x in ("", "\0", "ÿ" * 1000, "Ā" * 1000, "aÿĀ", "\U0010ffff" * 1000, "a" * 100_000)),
    ("list-u8", bytes(range(256)) * 400),
    ("list-u8", b""),
    ("list-string", [""] * 1000),
    ("list-char", [chr(i) for i in range(0, 0xD800, 97)]),
    ("list-f64", [-0.0, math.nan, math.inf]),
    ("list-list-u32", [[], [1], [], [2**32 - 1] * 1000]),
    ("small-enum", SmallEnum.BLUE),
    ("large-enum", LargeEnum.E255),
    ("large-enum", LargeEnum.E256),
    ("large-enum", LargeEnum.E299),
    ("option-option", None),
    ("option-option", Some(None)),
    ("option-option", Some(0)),
    ("result-none", Ok()),
    ("result-none", Err()),
    *((name, ~TYPED[name].python(0)) for name in TYPES if name.startswith("flags")),  # type: ignore[union-attr, operator]
    *((name, TYPED[name].python(0)) for name in TYPES if name.startswith("flags")),  # type: ignore[union-attr]
]


@pytest.mark.parametrize("encoding", GUESTS)
def test_the_corners_of_the_types(world: World, encoding: str) -> None:
    with world.guest(GUESTS[encoding]) as guest:
        for name, value in CORNERS:
            guest.seen.clear()
            assert same(outcome(guest, "guest", f"echo-{name}", value), value), (name, value)
            assert same(guest.seen, [value])


FLAT_TYPES = [name for name, type_ in TYPED.items() if not contains_pointer(type_)]


@pytest.mark.parametrize("name", FLAT_TYPES)
def test_images_of_values_in_memory_are_values_again(world: World, name: str) -> None:
    type_ = TYPED[name]
    with world.guest() as guest:

        @settings(SHARED, max_examples=10)
        @given(values(ListType(type_)))
        def there_and_back(sent: Any) -> None:
            image = guest.call("images", f"image-of-{name}", sent, size(type_))
            assert len(image) == len(sent) * size(type_)
            assert same(guest.call("images", f"{name}-of-image", image, len(sent)), sent)

        there_and_back()


#: Written down from the specification's rules, for what `abi.test_signature` has not: a guest sees these very bytes.
IMAGES = [
    ("bool", [True, False], "0100"),
    ("s16", [-2, 1], "feff0100"),
    ("char", ["é", "\U0010ffff"], "e9000000ffff1000"),
    ("f32", [-0.0, math.nan], "000000800000c07f"),
    ("f64", [math.nan], "000000000000f87f"),
    ("small-enum", [SmallEnum.BLUE], "02"),
    ("large-enum", [LargeEnum.E299], "2b01"),
    ("option-u32", [None, 7], "0000000000000000" + "0100000007000000"),
    ("option-u64", [7], "01" + "00" * 7 + "07" + "00" * 7),
    ("option-option", [Some(None), Some(5)], "010000000000000000000000" + "010000000100000005000000"),
    ("result-error", [Err(SmallEnum.BLUE), Ok()], "0102" + "0000"),
    ("flags9", [TYPED["flags9"].python(0x101)], "0101"),  # type: ignore[union-attr]
    ("flags17", [TYPED["flags17"].python(0x10001)], "01000100"),  # type: ignore[union-attr]
    ("flags32", [TYPED["flags32"].python(0x80000001)], "01000080"),  # type: ignore[union-attr]
    ("tuple-seventeen", [tuple(range(17))], "".join(f"{i:02x}00" for i in range(17))),
]


@pytest.mark.parametrize(("name", "sent", "image"), IMAGES, ids=[name for name, *_ in IMAGES])
def test_what_guests_find_in_memory(world: World, name: str, sent: Any, image: str) -> None:
    with world.guest() as guest:
        assert guest.call("images", f"image-of-{name}", sent, size(TYPED[name])).hex() == image


STRINGS = [
    ("utf8", "aé€😀", 10, "61c3a9e282acf09f9880"),
    ("utf16", "aé€😀", 5, "6100e900ac203dd800de"),
    ("latin1+utf16", "aé", 2, "61e9"),
    ("latin1+utf16", "aé€😀", 5 | 1 << 31, "6100e900ac203dd800de"),
]


@pytest.mark.parametrize(("encoding", "text", "length", "data"), STRINGS)
def test_strings_as_guests_see_them(world: World, encoding: str, text: str, length: int, data: str) -> None:
    with world.guest(GUESTS[encoding]) as guest:
        assert guest.call("raw", "raw-of-string", text) == (length, bytes.fromhex(data))
        assert guest.call("raw", "string-of-raw", length, bytes.fromhex(data)) == text


@pytest.mark.parametrize(
    ("name", "sent", "seen"),
    [
        ("bool", (2,), True),
        ("u8", (0x1FF,), 255),
        ("s8", (0x180,), -128),
        ("u16", (0x12345,), 0x2345),
        ("s16", (0x1FFFF,), -1),
        ("char", (0x10FFFF,), "\U0010ffff"),
        ("flags1", (0xFE,), "<Flags1: 0>"),
        ("joined", (0, 0xFFFFFFFF_3F800000), "Joined.Small(1.0)"),
        ("joined", (2, 0x3FF0000000000000), "Joined.Real(1.0)"),
        ("joined", (3, 0xFFFFFFFF), "Joined.Whole(-1)"),
    ],
)
def test_core_values_with_more_bits_than_the_type(world: World, name: str, sent: tuple[int, ...], seen: Any) -> None:
    with world.guest() as guest:
        guest.call("raw", f"send-{name}", *sent)
        assert guest.seen == [seen] or repr(guest.seen) == f"[{seen}]"


def test_post_return_runs_after_each_result_in_memory(world: World) -> None:
    with world.guest() as guest:
        assert guest.call("raw", "post-returns") == 0
        for i in range(3):
            guest.call("guest", "echo-string", "x")
            assert guest.call("raw", "post-returns") == i + 1
        guest.call("guest", "echo-u32", 1)
        assert guest.call("raw", "post-returns") == 3


# Handles


def test_own_handles_there_and_back(world: World) -> None:
    with world.guest() as guest:
        things = [Thing(i) for i in range(40)]
        assert guest.call("handles", "echo-thing", things[0]) is things[0]
        assert guest.call("handles", "echo-option-thing", None) is None
        assert guest.call("handles", "echo-option-thing", things[1]) is things[1]
        returned = guest.call("handles", "echo-list-thing", things)
        assert [id(thing) for thing in returned] == [id(thing) for thing in things]
        assert guest.seen == [things[0], None, things[1], things]
        made = guest.call("handles", "make", 5)
        assert (type(made), made.number) == (Thing, 5)
        number = guest.call("handles", "stash", made)
        assert guest.call("handles", "unstash", number) is made
        assert not any(thing.drops for thing in [*things, made])
        guest.call("handles", "take", made)
        assert made.drops == 1


def test_borrowed_handles(world: World) -> None:
    with world.guest() as guest:
        thing = Thing(3)
        assert guest.call("handles", "value", thing) == 3
        assert guest.call("handles", "sum", thing, Thing(4)) == 7
        assert guest.call("handles", "sum", thing, thing) == 6
        assert thing.drops == 0


def test_what_a_guest_keeps_is_dropped_with_its_store(world: World) -> None:
    thing = Thing(1)
    with world.guest() as guest:
        guest.call("handles", "stash", thing)
        guest.call("handles", "stash-many", 100)
        assert thing.drops == 0
    assert thing.drops == 1


# A guest whose bindings were written by others


def _appends(drawn: list[Any]) -> Callable[[Any], None]:
    def append(value: Any) -> None:
        drawn.append(value)

    return append


@pytest.mark.skipif(unavailable("py_abi") is not None, reason=str(unavailable("py_abi")))
def test_values_go_through_the_bindings_of_another_language(world: World) -> None:
    """What this host stores is read by code with its own idea of the layout, and the other way round."""

    async def calls(guest: Guest) -> None:
        for name, type_ in TYPED.items():
            drawn: list[Any] = []
            settings(SHARED, max_examples=4)(given(values(type_))(_appends(drawn)))()
            for value in [*drawn, *(value for corner, value in CORNERS if corner == name)]:
                guest.seen.clear()
                call = guest.start("guest", f"echo-{name}", value)
                try:
                    result = await call
                    if isinstance(TYPED[name], ResultType):
                        result = Ok(result)
                except Err as error:
                    result = error
                assert same(result, value), name
                assert same(guest.seen, [value]), name

    with world.guest("py_abi") as guest:
        asyncio.run(calls(guest))
