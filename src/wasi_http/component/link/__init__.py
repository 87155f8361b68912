"""From a decoded component to one that can be instantiated: the plan, shims, what imports are given, compilation."""

__all__: list[str] = []
