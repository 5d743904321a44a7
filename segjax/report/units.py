"""Numbers as people read them, one way for the terminal, Markdown and the page.

Every function takes a plain number in base units (a count, bytes, operations,
seconds, a share in 0..1) and gives text; None and NaN, "not measured" and "not
defined", give `MISSING`. Prefixes are decimal: 1 MB is 1,000,000 bytes.
"""

import math

MISSING = "-"
"""What stands where there is no number."""


def count(n: int | None) -> str:
    """1415040 -> "1.42 M"; below 100,000 every digit: "12,345"."""
    if _missing(n):
        return MISSING
    if n < 100_000:
        return f"{n:,.0f}"
    return f"{_digits(n / 1e6)} M"


def megabytes(n: float | None, *, unit: bool = True) -> str:
    """Bytes: 691200 -> "0.69 MB"; without `unit` "0.69"."""
    if _missing(n):
        return MISSING
    value = n / 1e6
    if round(value, 2) >= 100:
        text = f"{value:,.0f}"
    elif value >= 0.1:
        text = f"{value:.2f}"
    else:
        text = _digits(value, digits=2)
    return f"{text} MB" if unit else text


def gigaflops(n: float | None, *, unit: bool = True) -> str:
    """Operations: 12345678900 -> "12.3 GFLOP"; without `unit` "12.3"."""
    if _missing(n):
        return MISSING
    text = _digits(n / 1e9)
    return f"{text} GFLOP" if unit else text


def milliseconds(s: float | None, *, unit: bool = True) -> str:
    """Seconds: 0.0526 -> "52.6 ms"; without `unit` "52.6"."""
    if _missing(s):
        return MISSING
    text = _digits(s * 1e3)
    return f"{text} ms" if unit else text


def share(x: float | None) -> str:
    """0.4771 -> "0.477"."""
    return MISSING if _missing(x) else f"{x:.3f}"


def difference(x: float | None) -> str:
    """Of two shares, with its sign: 0.0231 -> "+0.023", -0.0004 -> "0.000"."""
    if _missing(x):
        return MISSING
    text = f"{x:+.3f}"
    return "0.000" if text in ("+0.000", "-0.000") else text


def ratio(x: float | None) -> str:
    """1.8437 -> "1.84x"."""
    return MISSING if _missing(x) else f"{x:.2f}x"


def probability(p: float | None) -> str:
    """0.0123 -> "0.012"; below a thousandth "<0.001"."""
    if _missing(p):
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _digits(value: float, *, digits: int = 3) -> str:
    """At least `digits` significant digits, never an exponent: 0.0123, 1,234."""
    if value == 0:
        return "0"
    # Of the rounded value: 9.999 becomes 10.0, not 10.00.
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"
