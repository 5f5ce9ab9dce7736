"""Spans of time as people write them: ``"30d"``, ``"24h"``, ``"60m"``, or a timedelta."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from durably_nb.errors import ValidationError
from durably_nb.wording import shown

_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}
_WRITTEN: Final = re.compile(r"(\d{1,6})([dhm])")


def parse_span(value: object, what: str) -> timedelta:
    """Give a span of time that is not negative.

    Raises:
        ValidationError: If it is none; the message says how to write one.

    """
    span = _span(value)
    if span is None:
        raise ValidationError(f'{what} is a span such as "30d", "24h" or "60m", or a timedelta, not {shown(value)}.')
    if span < timedelta(0):
        raise ValidationError(f"{what} is a span of time from zero up, not {span}.")
    return span


def parse_moment(value: object, what: str) -> datetime:
    """Give a time in UTC, in whole microseconds: the one that is given, or a span before now.

    Raises:
        ValidationError: If it is neither, or a time without a zone.

    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValidationError(
                f"{what} is a time without a zone ({value}). Say which: value.astimezone(), or tzinfo=UTC."
            )
        try:
            utc = value.astimezone(UTC)
            return datetime.combine(utc.date(), utc.time(), UTC)  # what pandas gives is then a plain datetime
        except (OverflowError, ValueError):  # the latter of a pandas Timestamp
            raise ValidationError(f"{what} is a time that UTC cannot say: {value}.") from None
    if _span(value) is None:
        raise ValidationError(
            f"{what} is an aware datetime, such as datetime(2026, 1, 31, tzinfo=UTC), or how long ago: "
            f'"30d", "24h", "60m" or a timedelta; not {shown(value)}.'
        )
    span = parse_span(value, what)
    try:
        return datetime.now(UTC) - span
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _span(value: object) -> timedelta | None:
    if isinstance(value, timedelta):
        return value
    match = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    return None if match is None else timedelta(**{_UNITS[match[2]]: int(match[1])})
