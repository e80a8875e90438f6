"""Arguments that count something."""

from __future__ import annotations


def check_count(name: str, value: object, least: int, most: int | None) -> None:
    """Pass what is a whole number within these bounds; ``most=None`` is no bound.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {value}")
