"""What Python sees of the compiled module."""

from typing import Final

from wasi_http.component.instance import ComponentInstance

ENCODINGS: Final[dict[str, int]]
MAX_BYTE_LENGTH: Final[int]

class LiftLowerContext:
    limit: int
    @property
    def instance(self) -> ComponentInstance: ...
