"""Components that answer requests: the exported handler of an instance, and its blocking face."""

__all__: list[str] = []
