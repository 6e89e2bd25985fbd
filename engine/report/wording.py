"""How figures are written in the report and on the terminal."""

MISSING = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in 0 … 1 as per cent, without the sign: 0.4312 → 43.1."""
    return MISSING if value is None else f"{100 * value:.{digits}f}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits and no needless zeros: 0.0100 → 0.01."""
    if value is None:
        return MISSING
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.{digits}g}"


def size(count: int | None) -> str:
    """A number of bytes in binary units: 1.5 GiB."""
    if count is None:
        return MISSING
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.3g} {units[0]}"


def listed(items: tuple[str, ...] | list[str]) -> str:
    """Names after each other: a, b and c."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else MISSING
