"""Checks of arguments."""

from typing import SupportsInt


def valid_int(param: object, allow_zero: bool = False, allow_negative: bool = False, name: str = "the value") -> int:
    """`param` as an int.

    :raises TypeError: if it is not a number.
    :raises ValueError: if it is NaN, infinite, or zero or negative where that is not allowed.
    """
    if isinstance(param, (str, bytes, bytearray)) or not isinstance(param, SupportsInt):
        raise TypeError(f"{name} must be a number, not {type(param).__name__}")
    try:
        number = int(param)
    except (ValueError, OverflowError):
        raise ValueError(f"{name} must be a finite number, not {param!r}") from None
    if number < 0 and not allow_negative:
        raise ValueError(f"{name} must not be negative, not {param!r}")
    if number == 0 and not allow_zero:
        raise ValueError(f"{name} must not be zero")
    if abs(number) >= 1 << 63:
        raise ValueError(f"{name} is out of range: {param!r}")
    return number
