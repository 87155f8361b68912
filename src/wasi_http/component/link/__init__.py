"""From decoded to instantiable components: compilation, the link plan, shims, and linking to host interfaces."""

__all__: list[str] = []
