from collections.abc import Callable
from typing import Any

from wasi_http.engine.module import CoreType

class HostFunc:
    name: str
    type: CoreType

class CoreFunc(HostFunc):
    def __init__(self, name: str, type: CoreType, function: Callable[..., Any]) -> None: ...
