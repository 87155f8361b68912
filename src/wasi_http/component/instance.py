"""One instance of a component (specification: CanonicalABI.md, "Component Instance State")."""

from __future__ import annotations

import cython

from wasi_http.engine.errors import Trap

__all__ = ["ComponentInstance"]


@cython.final
@cython.freelist(64)  # one or more for each request
@cython.cclass
class ComponentInstance:
    """Has the ``handles`` and the state of the guest. Composed components have several in one store."""

    def __cinit__(self):
        self.may_leave = True

    def trap_on_leave(self) -> cython.int:
        raise Trap("cannot leave the component instance: realloc and post-return may not call imports")
