"""Sizes and times as people write them: ``512K``, ``16 MiB``, ``1.5GB``, ``300s``, ``5m``, ``500ms``.

A size is in powers of 1,024 whatever the spelling of its unit, as in PostgreSQL and in Redis's ``kb`` and ``mb``.
Signs, exponents and digits other than those of ASCII are refused.
"""

import re
from typing import Final

SIZE_UNITS: Final = "as in 512K, 16MB, 2GiB"
TIME_UNITS: Final = "as in 500ms, 30s, 5m, 2h, 1d"

_WHOLE: Final = re.compile(r"-?[0-9]{1,20}")
_NUMBER: Final = r"(?=\.?[0-9])([0-9]{0,20})(?:\.([0-9]{0,20}))?"  # 5, 0.5, .5
_SIZE: Final = re.compile(_NUMBER + " *(?:([KMGTP])I?)?B?", re.ASCII | re.IGNORECASE)
_TIME: Final = re.compile(_NUMBER + " *(MS|S|M|MIN|H|D)?", re.ASCII | re.IGNORECASE)
_PLAIN: Final = re.compile(_NUMBER)

_PREFIXES: Final = "KMGTP"
_SECONDS: Final = {"S": 1, "M": 60, "MIN": 60, "H": 3600, "D": 86_400}
_UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1), ("ms", 0.001))
_SHOWN: Final = ("PiB", "TiB", "GiB", "MiB", "KiB")


def parse_whole(text: str) -> int | None:
    """Return an integer; None if the text is not one."""
    return int(text) if _WHOLE.fullmatch(text) else None


def parse_number(text: str) -> float | None:
    """Return a number with or without a fraction; None if the text is not one."""
    return float(text) if _PLAIN.fullmatch(text) else None


def parse_size(text: str) -> int | None:
    """Return a size in bytes, rounded down; None if the text is not one."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    whole, fraction, prefix = match[1], match[2] or "", (match[3] or "").upper()
    if fraction and not prefix:
        return None  # half a byte
    factor = 1 << 10 * (_PREFIXES.index(prefix) + 1) if prefix else 1
    return int(whole + fraction) * factor // int(10 ** len(fraction))


def parse_time(text: str) -> float | None:
    """Return a time in seconds; None if the text is not one."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    number = float(f"{match[1]}.{match[2] or 0}")  # nothing is 0 on either side of the point
    unit = (match[3] or "S").upper()
    return number / 1000 if unit == "MS" else number * _SECONDS[unit]


def format_size(size: int) -> str:
    """Return the exact size as people write it, in the largest unit that leaves no fraction."""
    for power, unit in zip(range(50, 0, -10), _SHOWN, strict=True):
        if size and size % (1 << power) == 0:
            return f"{size >> power}{unit}"
    return str(size)


def format_time(seconds: float) -> str:
    """Return the exact time as people write it, in the largest unit that leaves no fraction."""
    if not seconds:
        return "0"
    for unit, factor in _UNITS:
        text = f"{seconds / factor:.15g}{unit}"
        if text[: -len(unit)].isdigit() and parse_time(text) == seconds:
            return text
    text = f"{seconds:.15g}s"
    return text if parse_time(text) == seconds else repr(seconds)
