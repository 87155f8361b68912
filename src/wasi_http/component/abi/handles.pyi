"""What Python sees of the compiled module."""

from wasi_http.component.abi.codec import Codec

class HandleCodec(Codec): ...
