"""``wasi:http`` on the host, one noun per module."""

__all__: list[str] = []
