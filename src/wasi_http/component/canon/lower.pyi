"""What Python sees of the compiled module."""

from collections.abc import Callable
from typing import Any

from wasi_http.component.abi.signature import Signature
from wasi_http.engine.host import HostFunc

class Lowered(HostFunc):
    def __init__(
        self,
        name: str,
        signature: Signature,
        function: Callable[..., Any],
        options: int,
        passes_state: bool,
        may_suspend: bool,
    ) -> None: ...
