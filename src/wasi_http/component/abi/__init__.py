"""The canonical ABI: values between Python and the memory of a guest."""

__all__: list[str] = []
