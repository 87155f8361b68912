from collections.abc import Sequence

from wasi_http.engine.binary.module import ModuleBinary

FUSION: int
START: bytes

def fuse(
    steps: Sequence[tuple[ModuleBinary, Sequence[int | tuple[int, int]]]], captures: Sequence[tuple[int, int]]
) -> bytes | None: ...
