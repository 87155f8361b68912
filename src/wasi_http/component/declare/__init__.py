"""Host interfaces, declared as annotated Python classes."""

__all__: list[str] = []
