from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasi_http.component.model.values import Err, Ok, Some, Variant, case


class Scheme(Variant):
    HTTP: ClassVar[Scheme] = case("HTTP")
    HTTPS: ClassVar[Scheme] = case("HTTPS")
    Other = case("other", str)
    MANY_WORDS: ClassVar[Scheme] = case()
    In_ = case(payload="list[Shout]")


class Shout(Variant):
    """A variant with methods of its own."""

    QUIET: ClassVar[Shout] = case("quiet")
    Loud = case("loud", str)

    @property
    def volume(self) -> int:
        return len(self.value) if isinstance(self, Shout.Loud) else 0

    def __str__(self) -> str:
        return f"volume {self.volume}"

    def __repr__(self) -> str:
        return "shout"


# Each differs from all others.
VALUES = [
    Ok(),
    Ok(1),
    Ok("a"),
    Ok((1, 2)),
    Some(),
    Some(1),
    Err(),
    Err(1),
    Err("a"),
    Scheme.HTTP,
    Scheme.HTTPS,
    Scheme.MANY_WORDS,
    Scheme.Other("ws"),
    Scheme.Other("wss"),
    Scheme.In_(("ws",)),
    Shout.Loud("ws"),
    Ok(Err(Scheme.HTTP)),
    Err(Scheme.Other("ws")),
    Some(Some(None)),
]


def _same_again(value: Any) -> Any:
    """A value that was made the same way, not the same object where there can be another."""
    return type(value)(_same_again(value.value)) if hasattr(value, "value") else value


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_equal_values_are_equal_and_hash_alike(value: Any) -> None:
    again = _same_again(value)
    assert value == again
    assert hash(value) == hash(again)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(VALUES, 2)), ids=repr)
def test_other_values_differ(one: Any, other: Any) -> None:
    assert one != other


def _pickled(protocol: int) -> Any:
    return lambda value: pickle.loads(pickle.dumps(value, protocol))


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, *(_pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1))]
)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_are_copied_and_pickled(value: Any, duplicate: Any) -> None:
    made = duplicate(value)
    assert made == value
    assert type(made) is type(value)
    assert (made is value) == (value in (Scheme.HTTP, Scheme.HTTPS, Scheme.MANY_WORDS))


@given(st.recursive(st.none() | st.text() | st.binary() | st.integers(), lambda inner: inner.map(Ok) | inner.map(Err)))
def test_any_nesting_survives_pickling(value: Any) -> None:
    again = pickle.loads(pickle.dumps(value))
    assert again == value
    assert hash(again) == hash(value)
    assert repr(again) == repr(value)


def test_payloads_are_copied_deeply_when_asked() -> None:
    inner = [1]
    for value in (Ok(inner), Err(inner), Some(inner), Scheme.In_(inner)):
        assert copy.copy(value).value is inner
        assert copy.deepcopy(value).value == inner
        assert copy.deepcopy(value).value is not inner


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Ok(), "Ok(None)"),
        (Ok("a"), "Ok('a')"),
        (Some(None), "Some(None)"),
        (Err(Scheme.HTTP), "Err(Scheme.HTTP)"),
        (Scheme.Other("ws"), "Scheme.Other('ws')"),
        (Scheme.MANY_WORDS, "Scheme.MANY_WORDS"),
        (Shout.Loud("a"), "shout"),
        (Shout.QUIET, "shout"),
    ],
)
def test_representations(value: Any, text: str) -> None:
    assert repr(value) == text


@pytest.mark.parametrize(
    "value", [value for value in VALUES if not isinstance(value, Err)] + [Shout.QUIET], ids=lambda value: repr(value)
)
def test_values_have_slots_only(value: Any) -> None:
    assert not hasattr(value, "__dict__")


def _describe(value: Any) -> str:
    match value:
        case Ok(None):
            return "ok"
        case Ok(inner):
            return f"ok {inner}"
        case Err(Scheme.Other(name)):
            return f"error {name}"
        case Err(inner):
            return f"error {inner!r}"
        case Some(inner):
            return f"some {inner}"
        case Scheme.HTTP | Scheme.HTTPS:
            return "web"
        case Scheme.Other("ws"):
            return "socket"
        case Scheme.Other(name):
            return f"scheme {name}"
        case Scheme():
            return "another scheme"
    return "?"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Ok(), "ok"),
        (Ok(1), "ok 1"),
        (Some(1), "some 1"),  # which is no Ok
        (Err(Scheme.Other("x")), "error x"),
        (Err(Scheme.HTTP), "error Scheme.HTTP"),
        (Scheme.HTTPS, "web"),
        (Scheme.Other("ws"), "socket"),
        (Scheme.Other("x"), "scheme x"),
        (Scheme.MANY_WORDS, "another scheme"),
        (Shout.QUIET, "?"),
    ],
)
def test_match(value: Any, text: str) -> None:
    assert _describe(value) == text


def test_errors_are_exceptions_with_a_value() -> None:
    with pytest.raises(Err) as caught:
        raise Err(Scheme.HTTP)
    assert caught.value.value is Scheme.HTTP
    assert str(caught.value) == "Scheme.HTTP"
    assert caught.value == Err(Scheme.HTTP)  # the traceback has no part in it


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_keep_value_and_notes_when_pickled(protocol: int) -> None:
    error = Err(value="late")
    error.add_note("by a proxy")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert again.value == "late"
    assert again.__notes__ == ["by a proxy"]


def test_cases_are_in_order_of_declaration() -> None:
    assert Scheme.__cases__ == (
        ("HTTP", None, Scheme.HTTP),
        ("HTTPS", None, Scheme.HTTPS),
        ("other", str, Scheme.Other),
        ("many-words", None, Scheme.MANY_WORDS),
        ("in", "list[Shout]", Scheme.In_),
    )
    made = [form("x") if isinstance(form, type) else form for _, _, form in Scheme.__cases__]
    assert [value._tag for value in made] == [0, 1, 2, 3, 4]
    assert [value._name for value in made] == ["HTTP", "HTTPS", "Other", "MANY_WORDS", "In_"]
    assert all(isinstance(value, Scheme) for value in made)


def test_variants_have_their_own_methods() -> None:
    assert (Shout.QUIET.volume, Shout.Loud("abc").volume) == (0, 3)
    assert str(Shout.Loud("abc")) == "volume 3"


def _without_cases() -> None:
    class Empty(Variant):
        pass


def _extended() -> None:
    class More(Scheme):
        WS: ClassVar[Scheme] = case("ws")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (_without_cases, r"Empty declares no case: .* Name = case"),
        (_extended, "More extends a variant: declare all cases in one class"),
        (lambda: case(str), "the name of a case must be a str"),  # type: ignore[arg-type]
        (Scheme, r"Scheme makes no instances: take one of Scheme.HTTP, Scheme.HTTPS, Scheme.Other"),
        (lambda: Scheme("HTTP"), "Scheme makes no instances"),
        (lambda: type(Scheme.HTTP)(), "Scheme.HTTP makes no instances"),
        (lambda: Scheme.Other(), "value"),
    ],
)
def test_mistakes(act: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        act()
