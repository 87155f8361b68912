"""What Python sees of the compiled module."""

from wasi_http.component.abi.context import LiftLowerContext
from wasi_http.component.handles import ResourceTable
from wasi_http.component.model.types import ResourceType
from wasi_http.engine.assembly import Assembly
from wasi_http.engine.fiber import Fiber
from wasi_http.engine.func import Func
from wasi_http.engine.store import Store

class Instances:
    def __init__(
        self, account: ResourceTable, options: tuple[tuple[int, int, int, int], ...], count: int = 1
    ) -> None: ...
    def context(self, store: Store, index: int) -> LiftLowerContext: ...
    def close(self) -> None: ...

class Destructor:
    def __init__(self, function: Func) -> None: ...
    def __call__(self, rep: int) -> Fiber | None: ...

class Prepared:
    def __init__(
        self,
        assembly: Assembly,
        options: tuple[tuple[int, int, int, int], ...],
        resources: tuple[tuple[ResourceType, int, int], ...] = (),
        count: int = 1,
    ) -> None: ...
    def instantiate(self, store: Store) -> None: ...
