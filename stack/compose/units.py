"""Durations and sizes as Compose writes them: `1m30s`, `512m`."""

import re

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|h|m|s)")
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_duration(text: str) -> float | None:
    """Seconds; None if it is no duration."""
    parts = DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return float(sum(float(number) * SECONDS[unit] for number, unit in parts))


def parse_size(text: str) -> int | None:
    """Bytes, in powers of 1024 whatever the unit is called; None if it is no size."""
    match = SIZE.fullmatch(text.strip())
    if match is None:
        return None
    return int(float(match[1]) * 1024 ** POWERS[match[2].lower()])
