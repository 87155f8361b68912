"""Interfaces of the host, declared as annotated Python classes."""

__all__: list[str] = []
