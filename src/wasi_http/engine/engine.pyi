from wasi_http.engine.config import EngineConfig

class Clock:
    def __init__(self, slice_: float) -> None: ...
    def run(self) -> None: ...

class Engine:
    config: EngineConfig
    pooling: bool
    guarded: bool
    def __init__(self, config: EngineConfig | None = None) -> None: ...
