"""Figures as people read them."""

from math import isnan


def duration(seconds: float) -> str:
    """``1 h 02 min``, ``3 min 20 s``, ``4.2 s``, ``80 ms``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """``1.3 GB``, ``420 MB``; empty for nothing."""
    if not count:
        return ""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def rate(value: float) -> str:
    """Three digits; empty where nothing was measured."""
    return "" if isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
