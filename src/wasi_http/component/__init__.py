"""The component model on top of core WebAssembly: decoding, linking, the canonical ABI, resources."""

from wasi_http.component.canon.lift import Call, Lifted
from wasi_http.component.declare.annotations import (
    Borrow,
    Own,
    State,
    char,
    f32,
    f64,
    s8,
    s16,
    s32,
    s64,
    u8,
    u16,
    u32,
    u64,
)
from wasi_http.component.declare.binding import HostFunction
from wasi_http.component.declare.interface import Interface, Resource, constructor, func, method, raises, static
from wasi_http.component.handles import GuestResource, ResourceTable, live_resources
from wasi_http.component.link.component import Component
from wasi_http.component.link.linker import InstancePre, Linker
from wasi_http.component.model.errors import InvalidComponent, LinkError
from wasi_http.component.model.values import Err, Ok, Some, Variant, case

__all__ = [
    "Borrow",
    "Call",
    "Component",
    "Err",
    "GuestResource",
    "HostFunction",
    "InstancePre",
    "Interface",
    "InvalidComponent",
    "Lifted",
    "LinkError",
    "Linker",
    "Ok",
    "Own",
    "Resource",
    "ResourceTable",
    "Some",
    "State",
    "Variant",
    "case",
    "char",
    "constructor",
    "f32",
    "f64",
    "func",
    "live_resources",
    "method",
    "raises",
    "s8",
    "s16",
    "s32",
    "s64",
    "static",
    "u8",
    "u16",
    "u32",
    "u64",
]
