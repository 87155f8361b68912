"""The canonical ABI: converts values between Python and guest memory."""

__all__: list[str] = []
