"""Other people's interfaces: thin adapters, each imported by its own name."""

__all__: list[str] = []
