"""What Python sees of the compiled module."""

from typing import Final

from wasi_http.component.instance import ComponentInstance
from wasi_http.engine.func import Func
from wasi_http.engine.memory import Memory

ENCODINGS: Final[dict[str, int]]
MAX_BYTE_LENGTH: Final[int]

class LiftLowerContext:
    limit: int
    def __init__(
        self, memory: Memory | None, realloc: Func | None, instance: ComponentInstance, encoding: int
    ) -> None: ...
    @property
    def instance(self) -> ComponentInstance: ...
