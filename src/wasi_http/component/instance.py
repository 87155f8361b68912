"""One instance of a component (specification: CanonicalABI.md, "Component Instance State")."""

from __future__ import annotations

import cython

from wasi_http.engine.errors import Trap

__all__ = ["ComponentInstance"]


@cython.final
@cython.freelist(64)  # one or more for each request
@cython.cclass
class ComponentInstance:
    """Its ``handles``, and what its guest may do at the moment. Several share a store when components are composed."""

    def __cinit__(self):
        self.may_leave = True

    def trap_on_leave(self) -> cython.int:
        raise Trap("cannot leave the component instance: realloc and post-return may not call imports")
