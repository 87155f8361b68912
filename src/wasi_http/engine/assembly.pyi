from collections.abc import Sequence

from wasi_http.engine.engine import Engine
from wasi_http.engine.host import HostFunc
from wasi_http.engine.module import Module
from wasi_http.engine.store import Store

class Assembly:
    engine: Engine
    @property
    def functions(self) -> list[HostFunc]: ...
    def __init__(
        self,
        engine: Engine,
        functions: Sequence[HostFunc],
        steps: Sequence[tuple[Module, Sequence[int | tuple[int, int]]]],
        captures: Sequence[tuple[int, int]],
        entry: int = -1,
        start: int | None = None,
    ) -> None: ...
    def instantiate(self, store: Store) -> None: ...
