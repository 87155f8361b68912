"""Flow control: wake-ups, and bodies in transit. Independent of HTTP and WASI."""

from wasi_http.flow.pipe import BODY_BUFFER, Pipe
from wasi_http.flow.pump import Pump
from wasi_http.flow.signal import SILENT, Signal, until

__all__ = ["BODY_BUFFER", "SILENT", "Pipe", "Pump", "Signal", "until"]
