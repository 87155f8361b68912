from collections.abc import Sequence

from wasi_http.engine.module import Export, Import

FUSION: int
START: bytes

class Unreadable(Exception): ...

class ModuleBinary:
    code: bytes | memoryview
    imports: tuple[Import, ...]
    exports: tuple[Export, ...]
    def __init__(self, code: bytes | memoryview) -> None: ...

def fuse(
    steps: Sequence[tuple[ModuleBinary, Sequence[int | tuple[int, int]]]], wants: Sequence[tuple[int, int]]
) -> bytes | None: ...
