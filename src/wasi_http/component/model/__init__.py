"""Types, values and names of the component model, and its errors."""

__all__: list[str] = []
