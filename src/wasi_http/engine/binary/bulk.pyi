BULK: int
CHUNK: int

def interruptible(code: bytes | memoryview) -> bytes | memoryview: ...
