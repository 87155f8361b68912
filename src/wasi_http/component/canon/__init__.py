"""Canonical definitions at run time: functions of the host for guests, of guests for the host, and built-in ones."""

__all__: list[str] = []
