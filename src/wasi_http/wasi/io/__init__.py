"""``wasi:io``: errors, pollables and streams, the basis of all waiting and I/O in WASI."""

from wasi_http.wasi.io.error import MAX_DEBUG_STRING, Error, IoError
from wasi_http.wasi.io.inputs import BytesInput, FileInput, Source, input_stream
from wasi_http.wasi.io.lines import MAX_LINE, LinePrefix
from wasi_http.wasi.io.outputs import SINK_PERMIT, CallableOutput, FileOutput, NullOutput, Sink, output_stream
from wasi_http.wasi.io.poll import Poll, Pollable
from wasi_http.wasi.io.streams import (
    MAX_BLOCKING_WRITE,
    MAX_PERMIT,
    MAX_READ,
    InputStream,
    OutputStream,
    StreamError,
    Streams,
    failed,
)

__all__ = [
    "MAX_BLOCKING_WRITE",
    "MAX_DEBUG_STRING",
    "MAX_LINE",
    "MAX_PERMIT",
    "MAX_READ",
    "SINK_PERMIT",
    "BytesInput",
    "CallableOutput",
    "Error",
    "FileInput",
    "FileOutput",
    "InputStream",
    "IoError",
    "LinePrefix",
    "NullOutput",
    "OutputStream",
    "Poll",
    "Pollable",
    "Sink",
    "Source",
    "StreamError",
    "Streams",
    "failed",
    "input_stream",
    "output_stream",
]
