"""What a store has of a linked component, also when that is several component instances."""

from __future__ import annotations

import pytest

from wasi_http.component import Resource, ResourceTable
from wasi_http.component.canon.instances import Instances
from wasi_http.component.handles import live_handles
from wasi_http.component.model.types import ResourceType
from wasi_http.engine import Engine, Store, Trap

THING = ResourceType("thing")


class Thing(Resource):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def drop(self) -> None:
        self.log.append(self.name)


def test_each_instance_has_handles_of_its_own(engine: Engine) -> None:
    account = ResourceTable()
    instances = Instances(account, ((-1, -1, 0, 0), (-1, -1, 0, 1), (-1, -1, 1, 1)), 2)
    store = Store(engine)
    first, second, third = (instances.context(store, index).instance.handles for index in range(3))
    assert second is third is not first
    log: list[str] = []
    parent, child = Thing("parent", log), Thing("child", log)
    child.attach(parent)
    assert first.add(THING, child) == second.add(THING, parent) == 1
    with pytest.raises(Trap, match="unknown handle index 2"):
        first.get(second.add(THING, Thing("other", log)), THING)
    assert len(account) == 3
    # Children before parents, in whichever instance they are.
    instances.close()
    assert log.index("child") < log.index("parent")
    assert sorted(log) == ["child", "other", "parent"]
    assert len(account) == live_handles() == 0
    store.close()
