"""What components are made of: types, values, names, and what can be wrong with them."""

__all__: list[str] = []
