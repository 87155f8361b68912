from wasi_http.engine.config import EngineConfig

class Engine:
    config: EngineConfig
    pooling: bool
    def __init__(self, config: EngineConfig | None = None) -> None: ...
