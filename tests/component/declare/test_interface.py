from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Optional

import pytest

from wasi_http.component.declare import interface as declarations
from wasi_http.component.declare.annotations import (
    Borrow,
    Own,
    State,
    char,
    f32,
    f64,
    s8,
    s16,
    s32,
    s64,
    u8,
    u16,
    u32,
    u64,
    value_type,
)
from wasi_http.component.declare.binding import HostFunction
from wasi_http.component.declare.interface import Interface, Resource, constructor, func, method, raises, static
from wasi_http.component.model.types import (
    BorrowType,
    Case,
    EnumType,
    Field,
    FlagsType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    ValType,
    VariantType,
)
from wasi_http.component.model.values import Err, Ok, Some, Variant, case

if TYPE_CHECKING:
    from decimal import Decimal

# Declarations that are right. They name each other before they are defined.


@dataclass(slots=True)
class View:
    """What a store has for its host functions."""

    seen: list[str]


class Color(enum.Enum):
    DARK_RED = enum.auto()
    RED = enum.auto()
    CRIMSON = RED  # an alias is not a case of its own
    X11 = "x11-GREY"


class Access(enum.Flag):
    READ = enum.auto()
    WRITE_ALL = enum.auto()
    BOTH = READ | WRITE_ALL


class Plan(Variant):
    NOTHING: ClassVar[Plan] = case("nothing")
    Paint = case("paint", "Point")
    Give = case("give", "list[Own[Brush]]")
    Choice = case(payload=Annotated[int, Primitive.U8])


@dataclass(slots=True)
class Point:
    x_axis: u32
    y_axis: u32
    label: str | None = None


@dataclass(slots=True)
class Pixel(Point):
    from_: Color = Color.RED


class Brush(Resource, name="brush"):
    __slots__ = ("strokes",)

    def __init__(self, strokes: int = 0) -> None:
        self.strokes = strokes

    @constructor
    def new(state: State[View], strokes: u32) -> Own[Brush]:
        state.seen.append("new")
        return Brush(strokes)

    @static
    @raises(Color)
    def clone(this: Borrow[Brush], depth: u8) -> Own[Brush]:
        if depth > 1:
            raise Err(Color.RED)
        return Brush(this.strokes)

    @method
    def count(self) -> u32:
        return self.strokes

    @method
    def paint_all(self, state: State[View], points: list[Point], with_: Borrow[Canvas]) -> bool:
        state.seen.append(f"paint {len(points)} {with_.title_}")
        return True

    @method
    def dry(self) -> Awaitable[None] | None:
        return asyncio.sleep(0) if self.strokes else None

    @method(name="as-HTML")
    async def render(self) -> str:
        return f"<b>{self.strokes}</b>"

    def helper(self) -> int:
        return 1


class ThickBrush(Brush):
    """Another behaviour, the same resource type."""

    def count(self) -> int:
        return 100 + super().count()


class Canvas(Resource, name="canvas"):
    __slots__ = ("title_",)

    def __init__(self, title: str) -> None:
        self.title_ = title

    @constructor
    @raises()
    def new(title: str) -> Own[Canvas]:
        if not title:
            raise Err
        return Canvas(title)

    @method
    def name(self) -> str:
        return self.title_


class Art(Interface, name="test:art/studio@1.2.3"):
    resources = (Brush, Canvas)

    @func
    def now() -> u64:
        return 7

    @func
    def exit_(state: State[View], code: u8) -> None:
        state.seen.append(f"exit {code}")

    @raises("Color")
    @func
    def mix_colors(colors: list[Color], in_: Access) -> Color | None:
        if not colors:
            raise Err(Color.DARK_RED)
        return colors[0]

    @func
    def swap(outcome: Ok[u32] | Err[str]) -> Ok[str] | Err[u32]:
        return Err(outcome.value) if isinstance(outcome, Ok) else Ok(outcome.value)

    @func
    def swap_later(
        outcome: Ok[u32] | Err[str],
    ) -> Ok[str] | Err[u32] | Awaitable[Ok[str] | Err[u32]]:
        async def later() -> Ok[str] | Err[u32]:
            return Art.swap(outcome)

        return later() if isinstance(outcome, Err) else Art.swap(outcome)

    @func
    def poll() -> Ok[Ok[Own[Brush] | None] | Err[Color]] | Err[None] | None:
        return None

    @func
    def deep() -> Some[u8 | None] | None:
        return Some(None)

    @func
    def wait(ms: u32) -> list[u32] | Awaitable[list[u32]]:
        return asyncio.sleep(0, [ms]) if ms else []

    @func
    def always_wait() -> Awaitable[u8]:
        return asyncio.sleep(0, 3)

    @func
    async def sleep(ms: u32) -> u32:
        return ms


class Counter(Interface, name="test:art/counter@1.0.0"):
    """Configured by instance."""

    def __init__(self, start: int = 0) -> None:
        self.at = start

    @method
    def next_value(self, state: State[View], step: u32) -> u32:
        self.at += step
        state.seen.append("next")
        return self.at

    @method(name="reset")
    def start_again(self) -> None:
        self.at = 0

    @func
    def version() -> u32:
        return 1


# Reading functions


def _types(interface: Interface) -> dict[str, str]:
    return {name: str(function.type) for name, function in interface.functions().items()}


COLOR = "enum { dark-red, red, x11-GREY }"
POINT = "record { x-axis: u32, y-axis: u32, label: option<string> }"

ART = {
    "[constructor]brush": "func(strokes: u32) -> own<brush>",
    "[static]brush.clone": f"func(this: borrow<brush>, depth: u8) -> result<own<brush>, {COLOR}>",
    "[method]brush.count": "func(self: borrow<brush>) -> u32",
    "[method]brush.paint-all": f"func(self: borrow<brush>, points: list<{POINT}>, with: borrow<canvas>) -> bool",
    "[method]brush.dry": "func(self: borrow<brush>)",
    "[method]brush.as-HTML": "func(self: borrow<brush>) -> string",
    "[constructor]canvas": "func(title: string) -> result<own<canvas>>",
    "[method]canvas.name": "func(self: borrow<canvas>) -> string",
    "now": "func() -> u64",
    "exit": "func(code: u8)",
    "mix-colors": f"func(colors: list<{COLOR}>, in: flags {{ read, write-all }}) -> result<option<{COLOR}>, {COLOR}>",
    "swap": "func(outcome: result<u32, string>) -> result<string, u32>",
    "swap-later": "func(outcome: result<u32, string>) -> result<string, u32>",
    "poll": f"func() -> option<result<result<option<own<brush>>, {COLOR}>>>",
    "deep": "func() -> option<option<u8>>",
    "wait": "func(ms: u32) -> list<u32>",
    "always-wait": "func() -> u8",
    "sleep": "func(ms: u32) -> u32",
}


def test_signatures() -> None:
    assert _types(Art()) == ART


def test_functions_are_called_by_their_names() -> None:
    for interface in (Art(), Counter()):
        for name, function in interface.functions().items():
            assert isinstance(function, HostFunction)
            assert function.name == name


def test_which_functions_get_the_state() -> None:
    passed = {name for name, function in Art().functions().items() if function.passes_state}
    assert passed == {"[constructor]brush", "[method]brush.paint-all", "exit"}


def test_which_functions_may_suspend() -> None:
    suspending = {name for name, function in Art().functions().items() if function.may_suspend}
    assert suspending == {"[method]brush.dry", "[method]brush.as-HTML", "swap-later", "wait", "always-wait", "sleep"}


def test_resource_types() -> None:
    assert Art.resource_types() == {"brush": Brush.__resource_type__, "canvas": Canvas.__resource_type__}
    assert Brush.__resource_type__.python is Brush
    assert Counter.resource_types() == {}
    own, borrow = value_type(Own[Brush]), value_type(Borrow[Brush])
    assert own == OwnType(Brush.__resource_type__)
    assert borrow == BorrowType(Brush.__resource_type__)


# Calling functions


async def _finished(result: Any) -> Any:
    return await result if isinstance(result, Awaitable) else result


def _call(function: HostFunction, view: View, *arguments: Any) -> Any:
    """Calls as the canonical ABI does."""
    state = (view,) if function.passes_state else ()
    result = function.call(*state, *arguments)
    assert function.may_suspend or not isinstance(result, Awaitable)
    return asyncio.run(_finished(result))


BRUSH = Brush(3)
CANVAS = Canvas("sky")


@pytest.mark.parametrize(
    ("name", "arguments", "result", "seen"),
    [
        ("[static]brush.clone", (BRUSH, 2), Err(Color.RED), []),
        ("[method]brush.count", (BRUSH,), 3, []),
        ("[method]brush.count", (ThickBrush(3),), 103, []),
        ("[method]brush.paint-all", (BRUSH, [Point(1, 2)], CANVAS), True, ["paint 1 sky"]),
        ("[method]brush.dry", (BRUSH,), None, []),
        ("[method]brush.dry", (Brush(),), None, []),
        ("[method]brush.as-HTML", (BRUSH,), "<b>3</b>", []),
        ("[constructor]canvas", ("",), Err(), []),
        ("[method]canvas.name", (CANVAS,), "sky", []),
        ("now", (), 7, []),
        ("exit", (3,), None, ["exit 3"]),
        ("mix-colors", ([Color.RED], Access.READ), Color.RED, []),
        ("mix-colors", ([], Access.READ), Err(Color.DARK_RED), []),
        ("swap", (Ok(1),), Err(1), []),
        ("swap", (Err("a"),), "a", []),
        ("swap-later", (Ok(1),), Err(1), []),
        ("swap-later", (Err("a"),), "a", []),
        ("poll", (), None, []),
        ("deep", (), Some(None), []),
        ("wait", (5,), [5], []),
        ("wait", (0,), [], []),
        ("always-wait", (), 3, []),
        ("sleep", (5,), 5, []),
    ],
)
def test_calls(name: str, arguments: tuple[Any, ...], result: Any, seen: list[str]) -> None:
    view = View([])
    function = Art().functions()[name]
    if isinstance(result, Err):
        with pytest.raises(Err) as caught:
            _call(function, view, *arguments)
        assert caught.value == result
    else:
        assert _call(function, view, *arguments) == result
    assert view.seen == seen


def test_constructors_make_objects() -> None:
    view = View([])
    made = _call(Art().functions()["[constructor]brush"], view, 4)
    assert (type(made), made.strokes, view.seen) == (Brush, 4, ["new"])


def test_functions_with_self_are_called_on_the_object() -> None:
    view = View([])
    one, other = Counter(), Counter(10)
    functions = one.functions()
    assert _types(one) == {
        "next-value": "func(step: u32) -> u32",
        "reset": "func()",
        "version": "func() -> u32",
    }
    assert [_call(functions["next-value"], view, 2) for _ in range(2)] == [2, 4]
    assert _call(other.functions()["next-value"], view, 1) == 11
    _call(functions["reset"], view)
    assert (one.at, other.at) == (0, 11)
    assert view.seen == ["next"] * 3


def test_an_outcome_has_to_be_one() -> None:
    class Careless(Art):
        @staticmethod
        def swap(outcome: Any) -> Any:
            return 1

    with pytest.raises(TypeError, match=r"Art\.swap returned 1, neither Ok nor Err"):
        _call(Careless().functions()["swap"], View([]), Ok(1))


# Overriding


class FasterCounter(Counter):
    """Replaces functions without repeating decorators, one of them by one that takes self."""

    def next_value(self, state: State[View], step: u32) -> u32:
        return super().next_value(state, step * 10)

    def version(self) -> u32:  # type: ignore[override]
        return 2 + self.at


class RedeclaredCounter(Counter):
    """With a decorator, an override has a convention of its own."""

    @method
    def next_value(self, step: u32) -> u32:  # type: ignore[override]
        return step

    @func
    def version(state: State[View]) -> u32:  # type: ignore[override]
        return len(state.seen)


class AwaitingCounter(Counter):
    async def next_value(self, state: State[View], step: u32) -> u32:  # type: ignore[override]
        return step

    def version(*, _later: int = 0) -> u32:  # type: ignore[override, misc]
        return 5


class PlainCounter(Counter):
    def version() -> u32:  # type: ignore[override, misc]
        return 6


@pytest.mark.parametrize(
    ("interface", "name", "arguments", "result", "passes_state", "may_suspend"),
    [
        (FasterCounter(1), "next-value", (1,), 11, True, False),
        (FasterCounter(1), "version", (), 3, False, False),
        (FasterCounter(1), "reset", (), None, False, False),
        (RedeclaredCounter(1), "next-value", (4,), 4, False, False),
        (RedeclaredCounter(1), "version", (), 0, True, False),
        (AwaitingCounter(1), "next-value", (4,), 4, True, True),
        (AwaitingCounter(1), "version", (), 5, False, False),
        (PlainCounter(1), "version", (), 6, False, False),
    ],
)
def test_overriding_functions(
    interface: Counter, name: str, arguments: tuple[Any, ...], result: Any, passes_state: bool, may_suspend: bool
) -> None:
    assert _types(interface) == _types(Counter())
    function = interface.functions()[name]
    assert (function.passes_state, function.may_suspend) == (passes_state, may_suspend)
    assert _call(function, View([]), *arguments) == result


class OtherBrush(Brush):
    @static
    def clone(this: Borrow[Brush], depth: u8) -> Own[Brush]:
        return ThickBrush(depth)

    @staticmethod
    def new(state: State[View], strokes: u32) -> Own[Brush]:
        return OtherBrush(strokes + 1)


class OtherArt(Art):
    resources = (OtherBrush, Canvas)


def test_overriding_resources() -> None:
    assert ThickBrush.__resource_type__ is OtherBrush.__resource_type__ is Brush.__resource_type__
    assert OtherArt.resource_types() == Art.resource_types()
    functions = OtherArt().functions()
    made = _call(functions["[constructor]brush"], View([]), 1)
    assert (type(made), made.strokes) == (OtherBrush, 2)
    assert str(functions["[static]brush.clone"].type) == "func(this: borrow<brush>, depth: u8) -> own<brush>"
    assert _call(functions["[method]brush.count"], View([]), made) == 2
    # A subclass that nobody has told the interface of:
    assert _call(functions["[method]brush.count"], View([]), ThickBrush(1)) == 101


def test_a_resource_with_a_name_of_its_own_is_another_type() -> None:
    class Pencil(Brush, name="pencil"):
        pass

    assert Pencil.__resource_type__ is not Brush.__resource_type__
    assert Pencil.__resource_type__.name == "pencil"
    assert Pencil.__resource_type__.python is Pencil


# Annotations


def _record(*fields: tuple[str, ValType]) -> RecordType:
    return RecordType(tuple(Field(name, type_) for name, type_ in fields))


U8, U32, STRING = Primitive.U8, Primitive.U32, Primitive.STRING
COLOR_TYPE = EnumType(("dark-red", "red", "x11-GREY"))
POINT_FIELDS: tuple[tuple[str, ValType], ...] = (("x-axis", U32), ("y-axis", U32), ("label", OptionType(STRING)))


@pytest.mark.parametrize(
    ("hint", "type_"),
    [
        (bool, Primitive.BOOL),
        (u8, U8),
        (u16, Primitive.U16),
        (u32, U32),
        (u64, Primitive.U64),
        (s8, Primitive.S8),
        (s16, Primitive.S16),
        (s32, Primitive.S32),
        (s64, Primitive.S64),
        (f32, Primitive.F32),
        (f64, Primitive.F64),
        (float, Primitive.F64),
        (char, Primitive.CHAR),
        (str, STRING),
        (bytes, ListType(U8)),
        (Annotated[str, "a comment"], STRING),
        (Annotated[u8, "a comment"], U8),
        (list[str], ListType(STRING)),
        (list[list[bytes]], ListType(ListType(ListType(U8)))),
        (tuple[u8, str], TupleType((U8, STRING))),
        (tuple[u8], TupleType((U8,))),
        (u8 | None, OptionType(U8)),
        (None | str, OptionType(STRING)),
        (Optional[str], OptionType(STRING)),  # noqa: UP045
        (Some[str | None] | None, OptionType(OptionType(STRING))),
        (Some[Some[str | None] | None] | None, OptionType(OptionType(OptionType(STRING)))),
        (list[str | None] | None, OptionType(ListType(OptionType(STRING)))),
        (Ok[u8] | Err[str], ResultType(U8, STRING)),
        (Err[str] | Ok[u8], ResultType(U8, STRING)),
        (Ok[None] | Err[str], ResultType(None, STRING)),
        (Ok[u8] | Err[None], ResultType(U8, None)),
        (Ok[None] | Err[None], ResultType(None, None)),
        (Ok | Err, ResultType(None, None)),
        (Ok[u8 | None] | Err[str], ResultType(OptionType(U8), STRING)),
        (Ok[u8] | Err[str] | None, OptionType(ResultType(U8, STRING))),
        (Ok[Ok[u8] | Err[str]] | Err[None], ResultType(ResultType(U8, STRING), None)),
        (Color, COLOR_TYPE),
        (Access, FlagsType(("read", "write-all"))),
        (Point, _record(*POINT_FIELDS)),
        (Pixel, _record(*POINT_FIELDS, ("from", COLOR_TYPE))),
        (
            Plan,
            VariantType(
                (
                    Case("nothing"),
                    Case("paint", _record(*POINT_FIELDS)),
                    Case("give", ListType(OwnType(Brush.__resource_type__))),
                    Case("choice", U8),
                )
            ),
        ),
        (Own[ThickBrush], OwnType(Brush.__resource_type__)),
        (list[Borrow[Brush]], ListType(BorrowType(Brush.__resource_type__))),
        (Own[Brush] | None, OptionType(OwnType(Brush.__resource_type__))),
    ],
    ids=str,
)
def test_annotations(hint: Any, type_: ValType) -> None:
    assert value_type(hint) == type_


@pytest.mark.parametrize("cls", [Color, Access, Point, Pixel, Plan])
def test_types_know_their_classes(cls: type) -> None:
    assert value_type(cls).python is cls  # type: ignore[union-attr]


class Empty(enum.Enum):
    pass


class Alike(enum.Enum):
    A_B = "a-b"
    OTHER = "A-B"


class Misnamed(enum.Enum):
    A = "no label"


Many = enum.Flag("Many", [f"F{i}" for i in range(33)])  # type: ignore[misc]


@dataclass
class Bare:
    pass


@dataclass
class Node:
    value: u8
    next: list[Node]


class Tree(Variant):
    LEAF: ClassVar[Tree] = case("leaf")
    Fork = case("fork", "tuple[Tree, Tree]")


class Untyped(Variant):
    Number = case("number", int)


class Unknown(Variant):
    Number = case("number", "Nowhere")


class Twins(Variant):
    A: ClassVar[Twins] = case("same")
    B: ClassVar[Twins] = case("same")


@dataclass(kw_only=True)
class ByKeyword:
    a: u8


@dataclass
class Computed:
    a: u8 = dataclasses.field(init=False)


@dataclass
class Private:
    _a: u8


@dataclass
class Hidden:
    price: Decimal


class Nameless(Resource):
    pass


class Plain:
    pass


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        (int, "int has no width: use u8, u16, u32"),
        (list[int], "int has no width"),
        (int | None, "int has no width"),
        (list, r"a list needs the type of its elements: list\[T\]"),
        (list[u8], "write bytes"),
        (tuple, "a tuple needs the types of its elements"),
        (tuple[()], "a tuple has a fixed number of elements, one at least"),
        (tuple[u8, ...], r"any number is list\[T\]"),
        (dict[str, str], r"there are no maps in WIT: use list\[tuple\[K, V\]\]"),
        (dict, "there are no maps in WIT"),
        (set[str], "there are no sets in WIT"),
        (bytearray, "use bytes"),
        (memoryview, "use bytes"),
        (Any, "every value has a type"),
        (None, "stands for no type"),
        (type(None), "the absence of an option"),
        (object, "object stands for no type of WIT; a record is a dataclass"),
        (Plain, "Plain stands for no type of WIT"),
        (complex, "complex stands for no type"),
        (Callable[[], None], "stands for no type of WIT"),
        (Annotated[Plain, []], "Plain stands for no type"),
        ("u8", "'?u8'? stands for no type"),
        (u8 | str, r"the only unions are T \| None and Ok\[T\] \| Err\[E\]; for several cases use a Variant"),
        (u8 | str | None, "the only unions"),
        (Ok[u8] | Err[str] | u8, "the only unions"),
        (Ok[u8] | None, r"a result is written Ok\[T\] \| Err\[E\]"),
        (Ok[u8], r"a result is written Ok\[T\] \| Err\[E\]"),
        (Err, r"a result is written Ok\[T\] \| Err\[E\]"),
        (Ok[int] | Err[None], "int has no width"),
        (Some[u8], r"Some serves only for an option of an option: Some\[T \| None\] \| None"),
        (Some[u8] | None, "Some serves only for an option of an option"),
        (Brush, r"the resource Brush is passed as Own\[Brush\] or Borrow\[Brush\]"),
        (Nameless, "the resource Nameless is passed as"),
        (Own[Nameless], r"Own\[\.\.\.\] needs a subclass of Resource with name=, not .*Nameless"),
        (Borrow[u8], r"(Own|Borrow)\[\.\.\.\] needs a subclass of Resource"),
        (list[State[View]], "State is for a whole parameter"),
        (Empty, "Empty has no member: in WIT it needs one at least"),
        (Bare, "Bare has no field"),
        (Alike, "Alike: two have the name 'A-B' in WIT, where case does not count"),
        (Misnamed, "Misnamed: the member 'no label' has no name for WIT"),
        (Many, "Many has 33 flags, and WIT allows 32"),
        (Node, r"Node\.next: list\[Node\]: Node contains itself"),
        (Tree, r"Tree\.Fork.*: Tree contains itself"),
        (Untyped, r"Untyped\.Number = case\('number', int\): int has no width"),
        (Unknown, r"Unknown\.Number = case\('number', Nowhere\): name 'Nowhere' is not defined"),
        (Twins, "Twins: two have the name 'same'"),
        (ByKeyword, r"ByKeyword\.a: u8: the fields of a record are passed to its class by position"),
        (Computed, r"Computed\.a: u8: the fields of a record are passed to its class by position"),
        (Private, "Private: the field '-a' has no name for WIT"),
        (Hidden, r"Hidden\.price: Decimal: name 'Decimal' is not defined; .* outside of TYPE_CHECKING"),
    ],
    ids=str,
)
def test_what_is_no_annotation(hint: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        value_type(hint, "Somewhere.f(x: ...)")
    assert str(caught.value).startswith("Somewhere.f(x: ...): ")


# Declarations that are wrong


class Careless(Interface, name="test:art/careless"):
    @func
    def number(x: list[int]) -> None: ...


class CarelessInside(Interface, name="test:art/careless"):
    @func
    def f(x: list[Untyped]) -> None: ...


class NoAnnotation(Interface, name="test:art/careless"):
    @func
    def f(x) -> None: ...  # type: ignore[no-untyped-def]


class NoResult(Interface, name="test:art/careless"):
    @func
    def f(x: u8): ...  # type: ignore[no-untyped-def]


class BadResult(Interface, name="test:art/careless"):
    @func
    def f() -> int: ...  # type: ignore[empty-body]


class BadError(Interface, name="test:art/careless"):
    @func
    @raises(int)
    def f() -> None: ...


class LateState(Interface, name="test:art/careless"):
    @func
    def f(x: u8, state: State[View]) -> None: ...


class TwoStates(Interface, name="test:art/careless"):
    @func
    def f(state: State[View], more: State[View]) -> None: ...


class OnlyForCheckers(Interface, name="test:art/careless"):
    @func
    def f(price: Decimal) -> None: ...


class Unreadable(Interface, name="test:art/careless"):
    @func
    def f(x: enum.NoSuchThing) -> None: ...  # type: ignore[name-defined]


class AnyNumber(Interface, name="test:art/careless"):
    @func
    def f(*x: u8) -> None: ...


class KeywordOnly(Interface, name="test:art/careless"):
    @func
    def f(*, x: u8) -> None: ...


class SameParameter(Interface, name="test:art/careless"):
    @func
    def f(x: u8, x_: u8) -> None: ...


class BadParameter(Interface, name="test:art/careless"):
    @func
    def f(_x: u8) -> None: ...


class BadName(Interface, name="test:art/careless"):
    @func
    def _f() -> None: ...


class SameFunction(Interface, name="test:art/careless"):
    @func
    def f() -> None: ...

    @func
    def f_() -> None: ...


class BorrowedResult(Interface, name="test:art/careless"):
    @func
    def f() -> list[tuple[u8, Borrow[Brush] | None]]: ...  # type: ignore[empty-body]


class OtherAwaitable(Interface, name="test:art/careless"):
    @func
    def f() -> u8 | Awaitable[u16]: ...  # type: ignore[empty-body]


class AsyncAwaitable(Interface, name="test:art/careless"):
    @func
    async def f() -> Awaitable[u8]: ...  # type: ignore[empty-body]


class StaticInInterface(Interface, name="test:art/careless"):
    @static
    def f() -> None: ...


class FuncInResource(Resource, name="a"):
    @func
    def f() -> None: ...


class FuncResource(Interface, name="test:art/careless"):
    resources = (FuncInResource,)


class BadConstructor(Resource, name="a"):
    @constructor
    def new() -> Own[Brush]: ...  # type: ignore[empty-body]


class ConstructorResource(Interface, name="test:art/careless"):
    resources = (BadConstructor,)


class NamelessResource(Interface, name="test:art/careless"):
    resources = (Nameless,)


class SameResource(Interface, name="test:art/careless"):
    resources = (BadConstructor, FuncInResource)


class NamelessInterface(Interface):
    @func
    def f() -> None: ...


class TooFew(Counter):
    def next_value(self, step: u32) -> u32:  # type: ignore[override]
        return step


class TooFewBrush(Brush):
    def paint_all(self) -> bool:  # type: ignore[override]
        return True


class TooFewArt(Interface, name="test:art/careless"):
    resources = (TooFewBrush,)


@pytest.mark.parametrize(
    ("interface", "message"),
    [
        (Careless, r"^Careless\.number\(x: list\[int\]\): int has no width: use u8"),
        (
            CarelessInside,
            r"^CarelessInside\.f\(x: list\[Untyped\]\): Untyped\.Number = case\('number', int\): int has no width",
        ),
        (NoAnnotation, r"^NoAnnotation\.f\(x: .*: the parameter x needs an annotation"),
        (NoResult, r"^NoResult\.f: the result needs an annotation; write -> None"),
        (BadResult, r"^BadResult\.f -> int: int has no width"),
        (BadError, r"^BadError\.f, @raises\(int\): int has no width"),
        (LateState, r"^LateState\.f\(state: State\[View\]\): there is one State parameter, and it comes first"),
        (TwoStates, r"^TwoStates\.f\(more: State\[View\]\): there is one State parameter"),
        (OnlyForCheckers, r"^OnlyForCheckers\.f\(price: Decimal\): name 'Decimal' is not defined; .*TYPE_CHECKING"),
        (Unreadable, r"^Unreadable\.f\(x: enum\.NoSuchThing\): the annotation cannot be read: .*NoSuchThing"),
        (AnyNumber, r"^AnyNumber\.f\(x: u8\): functions of WIT have positional parameters only"),
        (KeywordOnly, r"^KeywordOnly\.f\(x: u8\): functions of WIT have positional parameters only"),
        (SameParameter, r"^SameParameter\.f\(x_: u8\): 'x' is not a WIT name, or not the only one.*rename"),
        (BadParameter, r"^BadParameter\.f\(_x: u8\): '-x' is not a WIT name"),
        (BadName, r"^BadName\._f: '-f' is not a WIT name: rename it, or @func\(name="),
        (SameFunction, r"^SameFunction\.f_: the interface test:art/careless has f twice"),
        (BorrowedResult, r"^BorrowedResult\.f: a result cannot be borrowed: write Own"),
        (OtherAwaitable, r"^OtherAwaitable\.f -> u8 \| Awaitable\[u16\]: write T \| Awaitable\[T\], with the same T"),
        (AsyncAwaitable, r"^AsyncAwaitable\.f -> Awaitable\[u8\]: an async function is annotated with what it returns"),
        (StaticInInterface, r"^StaticInInterface\.f: @static belongs in a Resource"),
        (FuncResource, r"^FuncInResource\.f: @func belongs in an Interface"),
        (ConstructorResource, r"^BadConstructor\.new: a constructor returns Own\[BadConstructor\]"),
        (NamelessResource, r"^NamelessResource\.resources: .*Nameless'> is not a subclass of Resource with name="),
        (SameResource, r"^SameResource\.resources: two resources have the name a"),
        (NamelessInterface, r"^NamelessInterface has no name: class NamelessInterface\(Interface, name="),
        (TooFew, r"^TooFew\.next_value overrides Counter\.next_value and takes \(step: 'u32'\)"),
        (TooFewArt, r"^TooFewBrush\.paint_all overrides Brush\.paint_all and takes \(self\)"),
    ],
)
def test_mistakes_in_declarations(interface: type[Interface], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        interface().functions()


def _method_without_self() -> None:
    class Thing(Resource, name="thing"):
        @method
        def f() -> None: ...  # type: ignore[misc]


def _static_with_self() -> None:
    class Thing(Resource, name="thing"):
        @static
        def f(self) -> None: ...  # type: ignore[no-untyped-def]


def _constructor_with_self() -> None:
    class Thing(Resource, name="thing"):
        @constructor
        def f(self) -> None: ...  # type: ignore[no-untyped-def]


def _drop_in_wit() -> None:
    class Thing(Resource, name="thing"):
        @method
        def drop(self) -> None: ...


def _name_in_wit() -> None:
    class Thing(Interface, name="a:b/c"):
        @func
        def name() -> None: ...  # type: ignore[override]


def _functions_in_wit() -> None:
    class Thing(Interface, name="a:b/c"):
        @func
        def functions() -> None: ...  # type: ignore[override]


def _bad_interface_name() -> None:
    class Thing(Interface, name="wasi:http@0.2.0/types"):
        pass


def _bad_resource_name() -> None:
    class Thing(Resource, name="my_thing"):
        pass


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (_method_without_self, r"Thing\.f is a method: its first parameter must be 'self'"),
        (_static_with_self, r"Thing\.f is a static: it takes no 'self'"),
        (_constructor_with_self, r"Thing\.f is a constructor: it takes no 'self'"),
        (_drop_in_wit, r"Thing\.drop: Resource reserves the name; a function of WIT is written drop_"),
        (_name_in_wit, r"Thing\.name: Interface reserves the name; a function of WIT is written name_"),
        (_functions_in_wit, r"Thing\.functions: Interface reserves the name"),
        (_bad_interface_name, r"Thing: 'wasi:http@0\.2\.0/types' is not an interface name; write package:name"),
        (_bad_resource_name, r"Thing: 'my_thing' is not a resource name"),
    ],
)
def test_mistakes_in_classes(declare: Callable[[], None], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        declare()


def test_static_functions_can_be_called_in_python() -> None:
    assert Art.now() == 7
    assert Counter.version() == 1
    assert Brush(2).count() == 2
    assert Brush.clone(Brush(2), 0).strokes == 2


def test_interfaces_may_have_plain_names() -> None:
    class Plain(Interface, name="plugin"):
        pass

    assert (Plain.name, Plain().functions()) == ("plugin", {})


def test_everything_public_is_there() -> None:
    assert all(hasattr(declarations, name) for name in declarations.__all__)
    assert isinstance(Brush.__resource_type__, ResourceType)
