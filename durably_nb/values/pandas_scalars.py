"""Kinds of pandas' scalars."""

from __future__ import annotations

from typing import Any, Final

from durably_nb.values.kinds import Attr, Fields, Kind, Reader, Writer
from durably_nb.values.libraries import np, pd


def _encode_instant(value: pd.Timestamp | pd.Timedelta, walk: Writer) -> Fields:
    tz = getattr(value, "tz", None)
    if tz is None and getattr(value, "fold", False):
        raise walk.refuse("is a Timestamp with fold=1 and no time zone, which cannot be kept")
    fields: Fields = {"v": int(value.asm8.view("i8")), "unit": value.unit}
    return fields if tz is None else {**fields, "tz": walk.encode(tz, Attr("tz"))}


def _decode_timestamp(stored: Fields, walk: Reader) -> object:
    tz: Any = walk.decode(stored.get("tz"))
    moment = pd.Timestamp(np.datetime64(stored["v"], stored["unit"]))
    return moment if tz is None else moment.tz_localize("UTC").tz_convert(tz)


def _decode_timedelta(stored: Fields, _: Reader) -> object:
    return pd.Timedelta(np.timedelta64(stored["v"], stored["unit"]))


def _encode_period(value: pd.Period, _: Writer) -> Fields:
    return {"v": value.ordinal, "freq": value.freqstr}


def _decode_period(stored: Fields, _: Reader) -> object:
    return pd.Period(ordinal=stored["v"], freq=stored["freq"])


def _encode_interval(value: pd.Interval[Any], walk: Writer) -> Fields:
    return {"v": walk.items((value.left, value.right)), "closed": value.closed}


def _decode_interval(stored: Fields, walk: Reader) -> object:
    left, right = walk.items(stored["v"])
    return pd.Interval(left, right, closed=stored["closed"])


KINDS: Final = (
    Kind("Timestamp", ("Timestamp",), _encode_instant, _decode_timestamp),
    Kind("Timedelta", ("Timedelta",), _encode_instant, _decode_timedelta),
    Kind("Period", ("Period",), _encode_period, _decode_period),
    Kind("Interval", ("Interval",), _encode_interval, _decode_interval),
    Kind("NaT", ("NaT",), lambda _, __: {}, lambda _, __: pd.NaT),
    Kind("NA", ("NA",), lambda _, __: {}, lambda _, __: pd.NA),
)
