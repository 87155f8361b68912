"""The echoes of the canonical ABI's tests, through bindings that were written by others: what this host stores is read
by code that has its own idea of the layout.
"""

from collections.abc import Callable
from typing import Any

from wit_world import exports
from wit_world.imports import host


def _through(function: Callable[..., Any]) -> Callable[..., Any]:
    def echo(_self: object, *arguments: Any) -> Any:
        return function(*arguments)

    return echo


# test:abi/guest: every function is the host's of the same name. Made whole, because its base is abstract.
Guest = type(exports.Guest)(
    "Guest",
    (exports.Guest,),
    {name: _through(function) for name, function in vars(host).items() if name.startswith("echo_")},
)
