"""Checks of arguments, made before anything is sent or written."""

from __future__ import annotations

import math


def check_number(
    name: str,
    value: object,
    *,
    min: float,
    max: float = math.inf,
    integer: bool = False,
    unit: str = "",
) -> None:
    """Accept a number from ``min`` to ``max``, both included; never NaN.

    Args:
        name: the argument as users write it.
        value: what was given for it.
        min: the smallest number allowed.
        max: the largest number allowed.
        integer: whether it has to be an ``int``.
        unit: what the number counts, such as ``"seconds"``.

    Raises:
        TypeError: it is not a number, or not an ``int`` where one is needed.
        ValueError: it is out of range.
    """
    kinds = int if integer else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        kind = "a whole number" if integer else "a number"
        of_unit = f" of {unit}" if unit else ""
        raise TypeError(f"{name} must be {kind}{of_unit}, not {type(value).__name__}")
    if not min <= value <= max:
        of_unit = f" {unit}" if unit else ""
        allowed = f"at least {min:g}" if math.isinf(max) else f"from {min:g} to {max:g}"
        raise ValueError(f"{name} must be {allowed}{of_unit}, not {value}")


def check_optional_str(name: str, value: object) -> str | None:
    """Accept a ``str`` or ``None``.

    Raises:
        TypeError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    return value
