from typing import NamedTuple

from wasi_http.engine.engine import Engine

VALUES: dict[int, str]
C_KINDS: dict[str, int]

class CoreType(NamedTuple):
    params: tuple[str, ...]
    results: tuple[str, ...]

class Import(NamedTuple):
    module: str
    name: str
    kind: str
    type: CoreType | None

class Export(NamedTuple):
    name: str
    kind: str
    type: CoreType | None

class Module:
    engine: Engine
    imports: tuple[Import, ...]
    exports: tuple[Export, ...]
    @staticmethod
    def compile(engine: Engine, wasm: bytes | memoryview) -> Module: ...
    @staticmethod
    def validate(engine: Engine, wasm: bytes | memoryview) -> None: ...
    @staticmethod
    def load(engine: Engine, path: str) -> Module: ...
    @staticmethod
    def deserialize(engine: Engine, data: bytes | memoryview) -> Module: ...
    def serialize(self) -> bytes: ...

def wat_to_wasm(text: str) -> bytes: ...
