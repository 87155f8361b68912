from collections.abc import Callable, Generator
from typing import Any

from wasi_http.component.abi.signature import Signature
from wasi_http.component.model.types import ResourceType
from wasi_http.engine.assembly import Assembly
from wasi_http.engine.host import HostFunc
from wasi_http.engine.store import Store

class Lowered(HostFunc):
    def __init__(
        self,
        name: str,
        signature: Signature,
        function: Callable[..., Any],
        context: int,
        passes_state: bool,
        may_suspend: bool,
    ) -> None: ...

class ResourceDrop(HostFunc):
    def __init__(self, resource: ResourceType, destructor: int) -> None: ...

class ResourceNew(HostFunc):
    def __init__(self, resource: ResourceType) -> None: ...

class ResourceRep(HostFunc):
    def __init__(self, resource: ResourceType) -> None: ...

class CallTrampoline(HostFunc):
    def __init__(self) -> None: ...

class Lifted:
    name: str
    signature: Signature
    def __init__(
        self, name: str, signature: Signature, core: int, context: int, post_return: int, entry: int
    ) -> None: ...
    def expect_free(self, store: Store) -> int: ...
    def start(self, store: Store, *arguments: Any) -> Call: ...
    async def __call__(self, store: Store, *arguments: Any) -> Any: ...

class Call:
    store: Store
    result: Any
    @property
    def done(self) -> bool: ...
    def poll(self) -> bool: ...
    async def wait(self) -> Any: ...
    def __await__(self) -> Generator[Any, None, Any]: ...
    def close(self) -> None: ...

class Prepared:
    def __init__(
        self,
        assembly: Assembly,
        contexts: tuple[tuple[int, int, int], ...],
        resources: tuple[tuple[ResourceType, int], ...] = (),
    ) -> None: ...
    def instantiate(self, store: Store) -> None: ...
