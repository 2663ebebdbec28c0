"""Checks of arguments, and results grouped by error code."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, SupportsInt

__all__ = ["build_parts_by_error", "handle_partition_responses", "raise_error", "valid_int"]


def build_parts_by_error(response: Any, partitions_by_id: Mapping[int, Any] | None) -> dict[int, list[tuple[Any, Any]]]:
    """The partitions in a result of `Broker`, by error code, as `(partition, its part of the result)`.

    :param response: a result with `topics[name][partition].err`.
    :param partitions_by_id: the partitions of interest; others are left out.
    """
    parts: dict[int, list[tuple[Any, Any]]] = {}
    for partitions in response.topics.values():
        for number, answer in partitions.items():
            if partitions_by_id is not None and number in partitions_by_id:
                parts.setdefault(answer.err, []).append((partitions_by_id[number], answer))
    return parts


def handle_partition_responses(
    error_handlers: Mapping[int, Callable[[list[tuple[Any, Any]]], object]],
    parts_by_error: dict[int, list[tuple[Any, Any]]] | None = None,
    success_handler: Callable[[list[tuple[Any, Any]]], object] | None = None,
    response: Any = None,
    partitions_by_id: Mapping[int, Any] | None = None,
) -> dict[int, list[tuple[Any, Any]]]:
    """Calls the handler of each error code with its partitions, and returns the partitions by error code.

    :param error_handlers: by error code.
    :param parts_by_error: the result of `build_parts_by_error`; None: built from `response`.
    :param success_handler: called with the partitions without an error.
    :param response: see `build_parts_by_error`.
    :param partitions_by_id: see `build_parts_by_error`.
    :raises KeyError: if an error code has no handler.
    """
    if parts_by_error is None:
        parts_by_error = build_parts_by_error(response, partitions_by_id)
    for code, parts in parts_by_error.items():
        if code != 0:
            error_handlers[code](parts)
        elif success_handler is not None:
            success_handler(parts)
    return parts_by_error


def raise_error(error: Callable[[str], BaseException], info: str = "") -> NoReturn:
    """Raises `error(info)`."""
    raise error(info)


def valid_int(param: object, allow_zero: bool = False, allow_negative: bool = False, name: str = "the value") -> int:
    """Converts `param` to an int.

    :raises TypeError: if it is not a number.
    :raises ValueError: if it is NaN or infinite, or zero or negative where that is not allowed.
    """
    if isinstance(param, (str, bytes, bytearray)) or not isinstance(param, SupportsInt):
        raise TypeError(f"{name} must be a number, not {type(param).__name__}")
    try:
        number = int(param)
    except (ValueError, OverflowError):
        raise ValueError(f"{name} must be a finite number, not {param!r}") from None
    if number < 0 and not allow_negative:
        raise ValueError(f"{name} must not be negative: {param!r}")
    if number == 0 and not allow_zero:
        raise ValueError(f"{name} must not be zero")
    if abs(number) >= 1 << 63:
        raise ValueError(f"{name} is out of range: {param!r}")
    return number
