"""Numbers and tables as people read them."""


def readable_time(seconds: float) -> str:
    """`42 s`, `3 min`, `5.2 h` or `4.1 days`."""
    for unit, size, limit in (("s", 1, 99), ("min", 60, 99 * 60), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} h" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"
