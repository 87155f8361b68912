"""Component binaries: reading, validating, comparing types."""

__all__: list[str] = []
