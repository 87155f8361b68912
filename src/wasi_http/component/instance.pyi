"""What Python sees of the compiled module."""

from wasi_http.component.handles import HandleTable

class ComponentInstance:
    @property
    def handles(self) -> HandleTable: ...
