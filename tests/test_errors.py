"""Errors: one line that says where, what was found, what was expected, and the next command."""

from __future__ import annotations

import inspect

import pytest

from torchlock import errors
from torchlock.errors import StaleError, TorchlockError


def test_an_error_says_where_what_expected_and_the_remedy() -> None:
    """All four parts stand in the message, in this order."""
    error = TorchlockError("environments/a.yaml: python", "3.1", "'3.10'", "quote it")
    assert str(error) == "environments/a.yaml: python: 3.1; expected '3.10'; try: quote it"


def test_parts_that_are_not_given_leave_no_trace() -> None:
    """An error of place and finding alone has no dangling words."""
    assert str(TorchlockError("place", "found")) == "place: found"


def test_a_message_is_one_line() -> None:
    """Line ends, tabs and runs of spaces in any part become one space."""
    assert str(TorchlockError("a\nb", "c\r\n\td", "e  f", "g\n")) == "a b: c d; expected e f; try: g"


def test_only_stale_has_an_exit_status_of_its_own() -> None:
    """Stale is 3, every other refusal 1."""
    kinds = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, TorchlockError)]
    assert len(kinds) > 8
    assert {item.status for item in kinds if item is not StaleError} == {1}
    assert StaleError.status == 3


def test_every_refusal_has_the_one_root() -> None:
    """Whoever catches TorchlockError catches every refusal, and no error of Python's own."""
    for _, item in inspect.getmembers(errors, inspect.isclass):
        if item.__module__ == errors.__name__:
            assert issubclass(item, TorchlockError)
    with pytest.raises(TorchlockError):
        raise StaleError("lock", "moved")
