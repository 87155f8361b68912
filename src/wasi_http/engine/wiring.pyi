from collections.abc import Sequence

from wasi_http.engine.host import HostLinker
from wasi_http.engine.module import Module

class Wiring:
    def __init__(
        self,
        hosts: HostLinker,
        steps: Sequence[tuple[Module, Sequence[int | tuple[int, int]]]],
        captures: Sequence[tuple[int, int]],
    ) -> None: ...
