from wasi_http.engine.config import EngineConfig

class Engine:
    config: EngineConfig
    pooling: bool
    guarded: bool
    def __init__(self, config: EngineConfig | None = None) -> None: ...
