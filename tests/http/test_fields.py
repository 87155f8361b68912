"""Headers and trailers: every rule about them, and that many of them do no harm."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.view import View
from wasi_http.component import Err
from wasi_http.engine import Trap
from wasi_http.http.context import DEFAULT_FORBIDDEN_HEADERS
from wasi_http.http.fields import ENTRY_OVERHEAD, Field, Fields, HeaderError, content_length

INVALID, FORBIDDEN, IMMUTABLE = HeaderError.InvalidSyntax, HeaderError.Forbidden, HeaderError.Immutable


def fields(*entries: tuple[str, bytes], view: View | None = None) -> Fields:
    return Fields.from_list(view or View(), list(entries))


def refusal(action: Callable[[], object]) -> HeaderError | None:
    """Why a change was refused, None if it was not."""
    try:
        action()
    except Err as error:
        reason: HeaderError = error.value
        return reason
    return None


def ways_to_add(name: str, value: bytes) -> list[HeaderError | None]:
    """What each way of adding an entry says to it."""
    view = View(forbidden=["custom-forbidden-header"])
    return [
        refusal(lambda: fields(view=view).append(name, value)),
        refusal(lambda: fields(view=view).set(name, [value])),
        refusal(lambda: fields(view=view).set(name, [b"1", value])),
        refusal(lambda: fields((name, value), view=view)),
    ]


# ---- syntax ---------------------------------------------------------------------------------------------------------

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

NAMES: list[tuple[str, HeaderError | None]] = [
    ("x", None),
    (TOKEN, None),
    ("", INVALID),
    ("malformed header name", INVALID),
    ("x ", INVALID),
    ("x:", INVALID),
    ("x\n", INVALID),
    ("x\0", INVALID),
    ("é", INVALID),
    # Letters that become one of ASCII's in lower case: the Kelvin sign, and the capital i with a dot.
    ("\u212aeep-alive", INVALID),
    ("\u0130", INVALID),
    ("Connection", FORBIDDEN),
    ("Keep-Alive", FORBIDDEN),
    ("Host", FORBIDDEN),
    ("TRANSFER-ENCODING", FORBIDDEN),
    ("custom-forbidden-header", FORBIDDEN),
    ("Custom-Forbidden-Header", FORBIDDEN),
    ("connection ", INVALID),
]


@pytest.mark.parametrize(("name", "reason"), NAMES)
def test_names(name: str, reason: HeaderError | None) -> None:
    assert ways_to_add(name, b"2") == [reason] * 4
    view = View(forbidden=["custom-forbidden-header"])
    assert refusal(lambda: fields(view=view).delete(name)) == reason
    # Looking is never an error.
    assert fields(view=view).get(name) == []
    assert fields(view=view).has(name) is False


def test_every_name_of_the_host_is_forbidden() -> None:
    assert DEFAULT_FORBIDDEN_HEADERS
    for name in DEFAULT_FORBIDDEN_HEADERS:
        assert ways_to_add(name.title(), b"2") == [FORBIDDEN] * 4


@pytest.mark.parametrize("byte", range(256))
def test_values_byte_by_byte(byte: int) -> None:
    value = b"a" + bytes([byte]) + b"b"
    bad = byte == 0x7F or (byte < 0x20 and byte != 0x09)
    assert ways_to_add("x", value) == [INVALID if bad else None] * 4
    if not bad:
        assert fields(("x", value)).get("x") == [value]


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"\r\n b", b"bad\nvalue", b"a\0"])
def test_values_that_split_a_message(value: bytes) -> None:
    assert ways_to_add("x", value) == [INVALID] * 4


# ---- content-length -------------------------------------------------------------------------------------------------

LENGTHS: list[tuple[bytes, int | None]] = [
    (b"0", 0),
    (b"1234", 1234),
    (b"00000000000000000005", 5),
    (b"18446744073709551615", 2**64 - 1),
    (b"18446744073709551616", None),
    (b"99999999999999999999", None),
    (b"000000000000000000005", None),
    (b"9" * 5000, None),
    (b"+5", None),
    (b"-5", None),
    (b" 5", None),
    (b"5 ", None),
    (b"", None),
    (b"5,5", None),
    (b"5, 5", None),
    (b"0x5", None),
    (b"5_0", None),
    (b"5\n", None),
    ("\u0665".encode(), None),
    (b"five", None),
]


@pytest.mark.parametrize(("value", "length"), LENGTHS)
def test_content_length_is_digits(value: bytes, length: int | None) -> None:
    for add in (
        lambda: fields(("Content-Length", value)),
        lambda: appended("content-length", value),
        lambda: replaced("CONTENT-LENGTH", [value]),
    ):
        if length is None:
            assert refusal(add) is INVALID
        else:
            # As a number, so that nobody downstream reads it in another way.
            assert add().entries_ == [(b"content-length", b"%d" % length)]
    if length is None:
        with pytest.raises(Err):
            content_length([(b"content-length", value)])
    else:
        assert content_length([(b"x", b"y"), (b"content-length", value)]) == length


def appended(name: str, value: bytes) -> Fields:
    made = fields()
    made.append(name, value)
    return made


def replaced(name: str, values: list[bytes]) -> Fields:
    made = fields()
    made.set(name, values)
    return made


def test_content_length_is_none_without_a_field() -> None:
    assert content_length([]) is None
    assert content_length([(b"x-content-length", b"3")]) is None


# Values, the one that remains, or None when they are refused.
SEVERAL_LENGTHS: list[tuple[list[bytes], bytes | None]] = [
    ([b"5", b"5"], b"5"),
    ([b"5", b"05", b"5"], b"5"),
    ([b"5", b"6"], None),
    ([b"5", b"5", b"6"], None),
    ([b"5", b""], None),
]


@pytest.mark.parametrize(("values", "remains"), SEVERAL_LENGTHS)
def test_content_lengths_that_differ_are_refused_and_equal_ones_collapse(
    values: list[bytes], remains: bytes | None
) -> None:
    def append_all() -> Fields:
        made = fields(("x", b"y"))
        for value in values:
            made.append("content-length", value)
        return made

    for add in (
        append_all,
        lambda: fields(("x", b"y"), *(("Content-Length", value) for value in values)),
        lambda: replaced("content-length", values),
    ):
        if remains is None:
            assert refusal(add) is INVALID
        else:
            assert add().get("content-length") == [remains]


def test_a_content_length_may_be_replaced() -> None:
    made = fields(("content-length", b"5"))
    made.set("content-length", [b"6"])
    assert made.get("content-length") == [b"6"]
    # A refused change leaves everything as it was.
    assert refusal(lambda: made.set("content-length", [b"7", b"8"])) is INVALID
    assert refusal(lambda: made.append("content-length", b"7")) is INVALID
    assert made.entries_ == [(b"content-length", b"6")]
    made.delete("content-length")
    made.append("content-length", b"7")
    assert made.get("content-length") == [b"7"]


def test_a_copy_of_what_arrived_gets_no_second_content_length() -> None:
    arrived = Fields.received(View(), [(b"Content-Length", b"5")])
    copy = arrived.clone()
    assert refusal(lambda: copy.append("content-length", b"6")) is INVALID
    copy.append("content-length", b"5")
    assert copy.get("content-length") == [b"5"]
    strange = Fields.received(View(), [(b"content-length", b"5"), (b"content-length", b"6")]).clone()
    assert refusal(lambda: strange.append("content-length", b"5")) is INVALID
    with pytest.raises(Err):
        content_length(strange.entries_)


@given(st.integers(min_value=0, max_value=2**65))
def test_content_length_of_any_number(number: int) -> None:
    digits = str(number)
    if number < 2**64:
        assert content_length([(b"content-length", digits.encode())]) == number
    else:
        assert refusal(lambda: fields(("content-length", digits.encode()))) is INVALID


@given(st.binary(max_size=24))
def test_content_length_of_anything(value: bytes) -> None:
    plain = value.isascii() and value.isdigit() and len(value) <= 20 and int(value or b"0") < 2**64
    assert (refusal(lambda: fields(("content-length", value))) is None) == plain


# ---- order, immutability, copies ------------------------------------------------------------------------------------


def test_order_and_repetition_are_preserved() -> None:
    made = fields(("B", b"1"), ("a", b""), ("Set-Cookie", b"x=1; \xff"), ("b", b"2"), ("set-cookie", b"x=1; \xff"))
    assert made.entries() == [
        ("b", b"1"),
        ("a", b""),
        ("set-cookie", b"x=1; \xff"),
        ("b", b"2"),
        ("set-cookie", b"x=1; \xff"),
    ]
    assert made.get("B") == [b"1", b"2"]
    assert made.has("SET-cookie")


def test_no_other_letter_is_one_of_ascii() -> None:
    made = fields(("keep", b"1"))
    kelvin = "\u212aeep"  # "keep" in lower case
    assert kelvin.lower() == "keep"
    assert (made.get("KEEP"), made.get(kelvin), made.has(kelvin)) == ([b"1"], [], False)


def test_set_to_nothing_removes() -> None:
    made = fields(("a", b"1"), ("b", b"2"), ("A", b"3"))
    made.set("a", [])
    assert made.entries() == [("b", b"2")]
    made.set("missing", [])
    assert made.entries() == [("b", b"2")]


def test_from_list_keeps_nothing_of_a_list_that_is_refused() -> None:
    assert refusal(lambda: fields(("ok", b"1"), ("bad header", b"2"))) is INVALID
    assert refusal(lambda: fields(("ok", b"1"), ("ok", b"bad\nvalue"))) is INVALID


@pytest.mark.parametrize("source", ["received", "frozen"])
def test_immutable(source: str) -> None:
    entries: list[Field] = [(b"x", b"1")]
    made = Fields.received(View(), entries) if source == "received" else fields(("x", b"1")).freeze()
    changes: list[Callable[[], object]] = [
        lambda: made.append("x", b"2"),
        lambda: made.append("content-length", b"10"),
        lambda: made.set("x", [b"2"]),
        lambda: made.set("x", []),
        lambda: made.delete("x"),
    ]
    for change in changes:
        assert refusal(change) is IMMUTABLE
    # As in the reference, what is wrong with a name is said first.
    assert refusal(lambda: made.append("bad name", b"2")) is INVALID
    assert refusal(lambda: made.delete("Host")) is FORBIDDEN
    assert made.entries() == [("x", b"1")]
    copy = made.clone()
    copy.append("x", b"2")
    copy.set("y", [b"3"])
    assert copy.entries() == [("x", b"1"), ("x", b"2"), ("y", b"3")]
    assert made.entries() == [("x", b"1")]


def test_what_arrived_is_seen_without_what_belongs_to_the_host() -> None:
    entries = [
        (b"Host", b"example.com"),
        (b"X-One", b"1"),
        (b"CONNECTION", b"close"),
        (b"custom-Forbidden-header", b"secret"),
        (b"x-one", b"\xe9"),
    ]
    seen = Fields.received(View(forbidden=["custom-forbidden-header"]), entries)
    assert seen.entries() == [("x-one", b"1"), ("x-one", b"\xe9")]
    assert not seen.has("host")
    assert seen.get("custom-forbidden-header") == []
    assert seen.clone().entries_ == seen.entries_


# ---- size -----------------------------------------------------------------------------------------------------------

MANY = 40_000

Fill = Callable[[Fields], object]
FILLS: dict[str, Fill] = {
    "names": lambda made: [made.append(f"n{number}", b"") for number in range(MANY)],
    "values of one name": lambda made: [made.append("n", b"v") for _ in range(MANY)],
    "empty values": lambda made: [made.append("n", b"") for _ in range(MANY)],
    "set": lambda made: made.set("n", [b""] * MANY),
    "one at a time with set": lambda made: [made.set(f"n{number}", [b""]) for number in range(MANY)],
    "from-list": lambda made: Fields.from_list(made.view, [(f"n{number}", b"") for number in range(MANY)]),
    "a long value": lambda made: made.append("n", bytes(b"v" * MANY * 4)),
    "a long name": lambda made: made.append("n" * MANY * 4, b""),
}


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
def test_a_collection_beyond_the_limit_traps(fill: Fill) -> None:
    made = fields()
    with pytest.raises(Trap, match="exceed the limit of 131072"):
        fill(made)
    size = sum(len(name) + len(value) + ENTRY_OVERHEAD for name, value in made.entries_)
    assert size <= 131072
    # The overhead bounds the number of entries, whatever they are.
    assert len(made.entries_) <= 131072 // ENTRY_OVERHEAD


@pytest.mark.parametrize("limit", [0, 1, 37, 38, 39, 75, 76, 1000])
def test_the_limit_is_exact(limit: int) -> None:
    made = fields(view=View(field_size_limit=limit))
    fits = limit // (len("foo") + len("bar") + ENTRY_OVERHEAD)
    for _ in range(fits):
        made.append("foo", b"bar")
    with pytest.raises(Trap):
        made.append("foo", b"bar")
    assert len(made.entries_) == fits


FLOODS: dict[str, Fill] = {
    # Each gives more in one call than a collection may have, in a way that would leave it small.
    "equal lengths": lambda made: Fields.from_list(made.view, [("content-length", b"1")] * 100_000),
    "different entries, then equal lengths": lambda made: Fields.from_list(
        made.view, [(f"n{number}", b"") for number in range(3_000)] + [("content-length", b"1")] * 100_000
    ),
    "forbidden entries": lambda made: Fields.from_list(made.view, [("host", b"a")] * 100_000),
    "equal lengths with set": lambda made: made.set("content-length", [b"1"] * 100_000),
    "values with set": lambda made: made.set("a", [b"v"] * 1_000_000),
    "bad values with set": lambda made: made.set("a", [b"\n"] * 1_000_000),
    "a bad value": lambda made: made.append("a", b"\n" * 10_000_000),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_is_refused_before_it_is_looked_at(flood: Fill) -> None:
    view = View()
    asked: list[str] = []
    view.is_forbidden_header = lambda name: bool(asked.append(name))  # type: ignore[method-assign]
    made = fields(view=view)
    with pytest.raises(Trap, match="exceed the limit of 131072"):
        flood(made)
    assert len(asked) <= 1
    assert made.entries_ == []


def test_the_most_that_is_let_in_is_taken_in_linear_time() -> None:
    def fill(lengths: int) -> float:
        entries = [(f"n{number:04}", b"") for number in range(lengths)] + [("content-length", b"1")] * lengths
        begin = time.thread_time()
        Fields.from_list(View(), entries)
        return time.thread_time() - begin

    few = min(fill(150) for _ in range(5))
    many = min(fill(1500) for _ in range(5))
    assert many < 40 * few, f"ten times as many entries took {many / few:.0f} times as long"


CHANGES: dict[str, Fill] = {
    "append": lambda made: made.append("content-length", b"5"),
    "append another": lambda made: made.append("a", b""),
    "set": lambda made: made.set("n1", [b"x"]),
    "delete": lambda made: made.delete("n2"),
    "get": lambda made: made.get("n3"),
    "has": lambda made: made.has("missing"),
    "entries": lambda made: made.entries(),
    "clone": lambda made: made.clone(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_call_on_a_full_collection_is_short(change: Fill) -> None:
    entries = [(f"n{number}", b"") for number in range(3_000)] + [("content-length", b"5")]
    made = fields(*entries)
    began = time.thread_time()
    change(made)
    assert time.thread_time() - began < 0.05


def test_what_is_removed_is_not_counted() -> None:
    made = fields(view=View(field_size_limit=110))
    for _ in range(50):
        made.set("foo", [b"x" * 40])
        made.append("bar", b"")
        made.delete("bar")
        made.set("foo", [])
        made.append("foo", b"x" * 40)
    assert made.entries() == [("foo", b"x" * 40)]


def test_equal_content_lengths_cost_nothing() -> None:
    made = fields(view=View(field_size_limit=100))
    for _ in range(1000):
        made.append("content-length", b"5")
    assert made.entries() == [("content-length", b"5")]


def test_what_arrived_may_be_larger_but_a_copy_of_it_cannot_grow() -> None:
    view = View(field_size_limit=100)
    arrived = Fields.received(view, [(b"x-long", b"v" * 1000)])
    assert arrived.get("x-long") == [b"v" * 1000]
    copy = arrived.clone()
    assert copy.entries_ == arrived.entries_
    with pytest.raises(Trap):
        copy.append("y", b"")
    copy = arrived.clone()
    copy.delete("x-long")
    copy.append("y", b"")
    # Within the limit, what was inherited counts as well.
    small = Fields.received(view, [(b"a", b"v" * 60)]).clone()
    with pytest.raises(Trap):
        small.append("b", b"v" * 60)


def test_collections_are_charged_for_what_they_hold() -> None:
    view = View()
    table = view.table
    made = fields(("foo", b"bar"), view=view)
    one = len("foo") + len("bar") + ENTRY_OVERHEAD
    assert table.charged == one
    copy, frozen = made.clone(), made.freeze()
    assert table.charged == 2 * one
    copy.append("foo", b"bar")
    copy.set("foo", [b"bar"] * 3)
    assert table.charged == 4 * one
    copy.delete("foo")
    assert table.charged == one
    # As long as anybody has the entries; a view of them costs nothing.
    del made
    assert frozen.entries() == [("foo", b"bar")]
    arrived = Fields.received(view, [(b"foo", b"bar")])
    assert table.charged <= one
    copy = arrived.clone()
    assert table.charged <= 2 * one
    del copy, frozen, arrived
    assert table.charged == 0


def test_many_collections_trap() -> None:
    view = View()
    kept: list[Fields] = []

    def hoard() -> None:
        for _ in range(1000):
            kept.append(fields(("x", b"v" * 100_000), view=view))

    with pytest.raises(Trap, match="more than 33554432 bytes"):
        hoard()
    assert len(kept) == 33554432 // (1 + 100_000 + ENTRY_OVERHEAD)
    with pytest.raises(Trap):
        kept[0].clone()
    kept.pop()
    fields(("x", b"v" * 100_000), view=view)
    kept.clear()
    assert view.table.charged == 0


# ---- a model --------------------------------------------------------------------------------------------------------

NAME = st.sampled_from(["a", "A", "b", "set-cookie", "Set-Cookie", "content-length", "host", "no name", ""])
VALUE = st.sampled_from([b"", b"1", b"01", b"2", b"a b", b"\xff", b"\t", b"\n", b"x" * 50])
LIMIT = 400


class Model(RuleBasedStateMachine):
    """A collection beside a plain list of pairs, to which the rules are applied in the most obvious way."""

    def __init__(self) -> None:
        super().__init__()
        self.view = View(field_size_limit=LIMIT)
        self.made = fields(view=self.view)
        self.entries: list[tuple[str, bytes]] = []
        self.mutable = True

    def expected(self, name: str, values: list[bytes], keep: bool) -> list[tuple[str, bytes]] | HeaderError:
        key = name.lower()
        if not key or " " in key:
            return INVALID
        if key == "host":
            return FORBIDDEN
        if not self.mutable:
            return IMMUTABLE
        if b"\n" in values:
            return INVALID
        present = [value for other, value in self.entries if other == key]
        entries = self.entries if keep else [entry for entry in self.entries if entry[0] != key]
        if key == "content-length" and values:
            numbers = {value.decode("latin-1") for value in values + (present if keep else [])}
            if not all(number.isdecimal() for number in numbers) or len(set(map(int, numbers))) > 1:
                return INVALID
            values = [] if keep and present else [b"%d" % int(values[0])]
        return [*entries, *((key, value) for value in values)]

    def apply(self, change: Callable[[], object], expected: list[tuple[str, bytes]] | HeaderError) -> None:
        if isinstance(expected, HeaderError):
            assert refusal(change) is expected
        elif size(expected) > LIMIT and size(expected) > size(self.entries):
            with pytest.raises(Trap):
                change()
            # The guest is gone, and this one with it.
            self.made, self.entries = fields(view=self.view), []
        else:
            assert refusal(change) is None
            self.entries = expected

    @rule(name=NAME, value=VALUE)
    def append(self, name: str, value: bytes) -> None:
        self.apply(lambda: self.made.append(name, value), self.expected(name, [value], True))

    @rule(name=NAME, values=st.lists(VALUE, max_size=4))
    def set(self, name: str, values: list[bytes]) -> None:
        self.apply(lambda: self.made.set(name, values), self.expected(name, values, False))

    @rule(name=NAME)
    def delete(self, name: str) -> None:
        self.apply(lambda: self.made.delete(name), self.expected(name, [], False))

    @rule()
    def clone(self) -> None:
        self.made = self.made.clone()
        self.mutable = True

    @rule()
    def freeze(self) -> None:
        self.made = self.made.freeze()
        self.mutable = False

    @invariant()
    def same(self) -> None:
        assert self.made.entries() == self.entries
        assert size(self.entries) <= LIMIT
        for name in ("a", "B", "Set-cookie", "content-length", "host", "no name"):
            values = [value for key, value in self.entries if key == name.lower()]
            assert self.made.get(name) == values
            assert self.made.has(name) is bool(values)


def size(entries: list[tuple[str, bytes]]) -> int:
    return sum(len(name) + len(value) + ENTRY_OVERHEAD for name, value in entries)


TestModel = Model.TestCase
