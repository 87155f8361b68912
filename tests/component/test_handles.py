from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasi_http.component.handles import (
    GuestResource,
    HandleTable,
    Resource,
    ResourceTable,
    live_handles,
    live_resources,
)
from wasi_http.component.model.types import ResourceType
from wasi_http.engine import Trap


class Thing(Resource):
    """Writes its name into a log when it is dropped."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name = name
        self.log = log

    def drop(self) -> None:
        if self.log is not None:
            self.log.append(self.name)


class Broken(Resource):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def drop(self) -> None:
        raise self.error


THING = ResourceType("thing", Thing)
OTHER = ResourceType("other", Thing)
GUEST = ResourceType("guest-made")


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    gc.collect()
    before = live_resources(), live_handles()
    yield
    gc.collect()
    assert (live_resources(), live_handles()) == before


@pytest.fixture
def account() -> ResourceTable:
    return ResourceTable()


@pytest.fixture
def table(account: ResourceTable) -> HandleTable:
    return HandleTable(account)


# Handles


def test_handles_start_at_one_and_the_last_freed_is_used_first(table: HandleTable) -> None:
    things = [Thing() for _ in range(4)]
    assert [table.add(THING, thing) for thing in things] == [1, 2, 3, 4]
    table.drop(2, THING)
    table.drop(3, THING)
    assert len(table) == 2
    assert [table.add(THING, thing) for thing in things[:3]] == [3, 2, 5]
    assert table.get(2, THING) is things[1]
    table.close()


@pytest.mark.parametrize(
    ("handle", "type_", "message"),
    [
        (0, THING, "unknown handle index 0"),
        (2, THING, "unknown handle index 2"),
        (3, THING, "unknown handle index 3"),
        (2**32 - 1, THING, "unknown handle index 4294967295"),
        (1, OTHER, "handle index 1 used with the wrong type: expected other but found thing"),
        (4, GUEST, "handle index 4 used with the wrong type: expected guest-made but found other"),
    ],
)
@pytest.mark.parametrize("operation", ["get", "pop", "drop"])
def test_wrong_handles_trap(table: HandleTable, handle: int, type_: ResourceType, message: str, operation: str) -> None:
    for kind in (THING, THING, THING, OTHER):
        table.add(kind, Thing())
    table.drop(2, THING)
    table.drop(3, THING)
    with pytest.raises(Trap) as caught:
        getattr(table, operation)(handle, type_)
    assert caught.value.message == message
    assert len(table) == 2
    table.close()


def test_a_borrowed_handle_cannot_be_given_away_but_dropped(table: HandleTable) -> None:
    log: list[str] = []
    handle = table.add(THING, Thing("a", log), own=False)
    assert table.borrows == 1
    with pytest.raises(Trap, match=f"cannot give away handle index {handle}: it is borrowed"):
        table.pop(handle, THING)
    table.drop(handle, THING)
    assert table.borrows == 0
    assert log == []


def test_dropping_an_own_handle_drops_the_resource_and_giving_it_away_does_not(table: HandleTable) -> None:
    log: list[str] = []
    thing = Thing("kept", log)
    table.drop(table.add(THING, Thing("dropped", log)), THING)
    assert table.pop(table.add(THING, thing), THING) is thing
    table.close()
    assert log == ["dropped"]


@pytest.mark.parametrize("count", [15, 16, 17, 5000])
def test_tables_grow(table: HandleTable, account: ResourceTable, count: int) -> None:
    things = [Thing(str(i)) for i in range(count)]
    handles = [table.add(THING, thing) for thing in things]
    assert handles == list(range(1, count + 1))
    assert [table.get(handle, THING) for handle in handles] == things
    assert len(account) == len(table) == count
    table.close()
    assert len(account) == len(table) == 0


@given(st.lists(st.one_of(st.just("add"), st.just("borrow"), st.integers(0, 30)), max_size=120))
def test_a_table_behaves_like_a_dictionary(actions: list[str | int]) -> None:
    account = ResourceTable()
    table = HandleTable(account)
    model: dict[int, tuple[Thing, bool]] = {}
    for action in actions:
        if isinstance(action, str):
            thing = Thing()
            handle = table.add(THING, thing, action == "add")
            assert handle > 0
            assert handle not in model
            model[handle] = thing, action == "add"
        elif action in model:
            thing, own = model.pop(action)
            assert table.get(action, THING) is thing
            if own:
                assert table.pop(action, THING) is thing
            else:
                table.drop(action, THING)
        else:
            with pytest.raises(Trap, match="unknown handle index"):
                table.get(action, THING)
        assert len(account) == len(table) == len(model)
        assert table.borrows == sum(not own for _, own in model.values())
    table.close()


# The account


def test_the_limit_of_an_account_covers_all_its_tables() -> None:
    account = ResourceTable(limit=3)
    one, other = HandleTable(account), HandleTable(account)
    for table in (one, other, one):
        table.add(THING, Thing())
    with pytest.raises(Trap, match="resource table has no free keys: the limit of 3 resources is reached"):
        other.add(THING, Thing())
    one.drop(1, THING)
    assert other.add(THING, Thing()) == 2
    account.close()


def test_an_account_may_have_no_limit() -> None:
    account = ResourceTable(limit=None)
    table = HandleTable(account)
    for _ in range(100):
        table.add(THING, Thing())
    account.close()
    with pytest.raises(ValueError, match="at least 1, not 0"):
        ResourceTable(limit=0)


def test_a_closed_table_leaves_no_cycle() -> None:
    gc.collect()
    gc.disable()
    try:
        account = ResourceTable()
        table = HandleTable(account)
        table.add(THING, Thing())
        table.define(GUEST)
        table.close()
        del account, table
        assert gc.collect() == 0
        account = ResourceTable()
        table = HandleTable(account)
        del account, table
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_table_that_is_just_forgotten_frees_everything() -> None:
    before = live_resources(), live_handles()
    table = HandleTable(ResourceTable())
    table.add(ResourceType("dynamic"), Thing())  # nobody else keeps the type
    gc.collect()
    with pytest.raises(Trap, match="expected thing but found dynamic"):
        table.get(1, THING)
    del table
    gc.collect()
    assert (live_resources(), live_handles()) == before


def test_what_the_host_keeps_for_resources_is_bounded() -> None:
    account = ResourceTable(memory=100)
    one, two = Thing(), Thing()
    one.charge(account, 60)
    two.charge(account, 40)
    with pytest.raises(Trap, match="more than 100 bytes"):
        two.charge(account, 1)
    assert (account.memory, account.charged) == (100, 100)
    two.charge(account, -30)
    one.charge(account, 30)
    del one
    assert account.charged == 10
    del two
    assert account.charged == 0
    with pytest.raises(ValueError, match="-1"):
        ResourceTable(memory=-1)


# Children


def test_a_parent_stays_until_its_children_are_gone(table: HandleTable) -> None:
    log: list[str] = []
    parent, child = Thing("parent", log), Thing("child", log)
    child.attach(parent)
    one, two = table.add(THING, parent), table.add(THING, child)
    for operation in (table.drop, table.pop):
        with pytest.raises(Trap, match="resource thing has children: drop them first"):
            operation(one, THING)
    table.drop(two, THING)
    table.drop(one, THING)
    assert log == ["child", "parent"]


def test_a_child_that_is_given_away_is_no_child_any_more(table: HandleTable) -> None:
    parent, child = Thing(), Thing()
    child.attach(parent)
    handles = table.add(THING, parent), table.add(THING, child)
    table.pop(handles[1], THING)
    assert table.pop(handles[0], THING) is parent


def test_a_child_that_the_host_forgets_does_not_hold_its_parent(table: HandleTable) -> None:
    parent = Thing()
    Thing().attach(parent)
    table.drop(table.add(THING, parent), THING)


def test_a_child_may_change_its_parent(table: HandleTable) -> None:
    first, second, child = Thing(), Thing(), Thing()
    child.attach(first)
    child.attach(second)
    table.drop(table.add(THING, first), THING)
    with pytest.raises(Trap, match="has children"):
        table.drop(table.add(THING, second), THING)
    with pytest.raises(ValueError, match="its own child"):
        child.attach(child)
    table.close()


def test_borrowed_parents_can_be_returned_while_children_live(table: HandleTable) -> None:
    parent, child = Thing(), Thing()
    child.attach(parent)
    table.drop(table.add(THING, parent, own=False), THING)


# The end of a store


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
@pytest.mark.parametrize("tables", [1, 2])
def test_the_end_drops_children_before_parents(account: ResourceTable, order: tuple[int, ...], tables: int) -> None:
    log: list[str] = []
    things = [Thing(str(i), log) for i in range(4)]
    for child, parent in ((1, 0), (2, 1), (3, 1)):
        things[child].attach(things[parent])
    handles = [HandleTable(account) for _ in range(tables)]
    for position in order:
        handles[position % tables].add(THING, things[position])
    account.close()
    assert sorted(log) == ["0", "1", "2", "3"]
    assert log[2:] == ["1", "0"]
    account.close()
    assert len(log) == 4


def test_the_end_drops_a_resource_once_and_borrows_never(account: ResourceTable, table: HandleTable) -> None:
    log: list[str] = []
    twice, borrowed = Thing("twice", log), Thing("borrowed", log)
    table.add(THING, twice)
    table.add(THING, twice)
    table.add(THING, borrowed, own=False)
    account.close()
    twice.release()
    assert log == ["twice"]
    assert table.borrows == 0


def test_the_end_survives_children_that_the_host_keeps_and_circles(account: ResourceTable, table: HandleTable) -> None:
    log: list[str] = []
    parent, kept = Thing("parent", log), Thing("kept", log)
    kept.attach(parent)
    one, other = Thing("one", log), Thing("other", log)
    one.attach(other)
    other.attach(one)
    for thing in (parent, one, other):
        table.add(THING, thing)
    account.close()
    assert sorted(log) == ["one", "other", "parent"]


def test_what_drops_raise_is_raised_at_the_end(account: ResourceTable, table: HandleTable) -> None:
    log: list[str] = []
    table.add(THING, Thing("a", log))
    table.add(THING, Broken(ValueError("first")))
    table.add(THING, Thing("b", log))
    with pytest.raises(ValueError, match="first"):
        table.close()
    assert sorted(log) == ["a", "b"]
    table.close()
    table.add(THING, Broken(ValueError("second")))
    table.add(THING, Broken(KeyboardInterrupt()))
    with pytest.raises(BaseExceptionGroup) as caught:
        account.close()
    assert {type(error) for error in caught.value.exceptions} == {ValueError, KeyboardInterrupt}
    account.close()


def test_a_closed_table_can_be_used_and_closed_again(account: ResourceTable, table: HandleTable) -> None:
    log: list[str] = []
    for name in ("a", "b"):
        assert table.add(THING, Thing(name, log)) == 1
        account.close()
    assert log == ["a", "b"]


# Resources of guests


def test_the_destructor_of_a_guests_resource_runs_once(account: ResourceTable, table: HandleTable) -> None:
    dropped: list[int] = []
    table.define(GUEST, dropped.append)
    resource = GuestResource(account, GUEST, -5)
    assert repr(resource) == "<own of the guest's guest-made -5>"
    resource.drop()
    with pytest.raises(ValueError, match="guest-made was dropped or given away"):
        resource.drop()
    assert dropped == [-5]
    with pytest.raises(ValueError, match="guest-made is borrowed"):
        GuestResource(account, GUEST, 1, False).drop()
    table.close()


def test_dropping_a_handle_to_a_guests_resource_runs_the_destructor(account: ResourceTable, table: HandleTable) -> None:
    dropped: list[int] = []
    user = HandleTable(account)
    table.define(GUEST, dropped.append)
    user.drop(user.add(GUEST, 7, own=False), GUEST)
    assert dropped == []
    user.drop(user.add(GUEST, 7), GUEST)
    assert dropped == [7]
    table.define(GUEST)
    user.drop(user.add(GUEST, 8), GUEST)
    account.close()
    assert dropped == [7]
