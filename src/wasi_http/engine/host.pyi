from collections.abc import Callable, Sequence
from typing import Any

from wasi_http.engine.engine import Engine
from wasi_http.engine.module import CoreType

class HostFunc:
    name: str
    type: CoreType

class CoreFunc(HostFunc):
    def __init__(self, name: str, type: CoreType, function: Callable[..., Any]) -> None: ...

class HostLinker:
    def __init__(self, engine: Engine, functions: Sequence[HostFunc]) -> None: ...
