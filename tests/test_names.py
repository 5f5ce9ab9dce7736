"""What may be a name, what a label, and how messages show what was given."""

from __future__ import annotations

from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import pytest

import durably_nb as dn
from durably_nb.names import MAX_LENGTH, checked_labels, checked_name, storable_text
from durably_nb.wording import did_you_mean, shown


class Text(str):
    """A string that may behave otherwise."""

    __slots__ = ()


class Silent:
    """What cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("name", ["a", "load flights", "año 🦆", "x" * MAX_LENGTH, "../..", "\x1b[31m", "a\nb", " a "])
def test_names_are_any_text_of_some_length(name: str) -> None:
    """Whatever can be stored, shown and searched may be a name, and is kept as it is."""
    assert checked_name(name, "A name") == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        ("\t\n ", "is empty"),
        ("\u3000", "is empty"),
        ("x" * (MAX_LENGTH + 1), "has 256 characters"),
        ("x" * 10_000_000, "has 10,000,000 characters"),
        ("a\0", "has a NUL character"),
        ("\ud83e", "has a lone surrogate"),
        (b"a", "is a string, not bytes"),
        (None, "is a string, not NoneType"),
        (Text("a"), "is a string, not Text"),
        (Silent(), "is a string, not Silent"),
    ],
)
def test_other_names_are_refused_in_a_line(name: Any, message: str) -> None:
    """The message says which name, what it is, and is short however long the name."""
    with pytest.raises(dn.ValidationError, match=f"A job's name {message}") as refused:
        checked_name(name, "A job's name")
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)
    str(refused.value).encode()


@pytest.mark.parametrize("labels", [{}, {"a": ""}, OrderedDict(a="b"), MappingProxyType({"a": "b"}), {"a b": "c\nd"}])
def test_labels_are_any_mapping_of_strings(labels: Any) -> None:
    """What is given is copied: changing it afterwards changes no run."""
    kept = checked_labels(labels)
    assert type(kept) is dict
    assert kept == dict(labels)
    assert kept is not labels


@pytest.mark.parametrize("text", ["", "a", "a\0b", "año 🦆", "\x7f"])
def test_text_that_can_be_stored_is_left_alone(text: str) -> None:
    """Messages are kept as they are."""
    assert storable_text(text) is text or storable_text(text) == text


def test_text_that_cannot_be_stored_is_escaped() -> None:
    """A lone surrogate is kept as its escape, the rest of the text as it is."""
    assert storable_text("a\ud800🦆\udfff") == "a\\ud800🦆\\udfff"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        ("a", "'a'"),
        ("a\nb", r"'a\nb'"),
        (None, "None"),
        (Silent(), "<Silent instance at 0x"),
        ([Silent()], "[<Silent instance at 0x"),
        (10**5000, "<int whose repr raises ValueError>"),
        ("x" * 10_000_000, "'xxx"),
        (list(range(1_000_000)), "[0, 1, 2"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_shown_in_a_line(value: Any, text: str) -> None:
    """However large or hostile, a value has its place in a sentence."""
    assert shown(value).startswith(text)
    assert len(shown(value)) <= 80


def test_a_slip_is_told_with_what_may_have_been_meant() -> None:
    """The nearest name is proposed; far from all of them, all are listed."""
    assert did_you_mean("labls", ["labels", "limit"], "the filters") == "did you mean 'labels'?"
    assert did_you_mean("zzz", ["labels", "limit"], "the filters") == "the filters are labels, limit."
    assert did_you_mean(Silent(), ["labels"], "the filters") == "the filters are labels."
    assert did_you_mean("x" * 10_000_000, ["labels"], "the filters") == "the filters are labels."
