"""Canonical definitions at run time: lowered host functions, lifted guest functions, and built-ins."""

__all__: list[str] = []
