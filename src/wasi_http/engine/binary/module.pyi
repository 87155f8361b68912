from wasi_http.engine.module import Export, Import

class ModuleBinary:
    code: bytes | memoryview
    imports: tuple[Import, ...]
    exports: tuple[Export, ...]
    def __init__(self, code: bytes | memoryview) -> None: ...
