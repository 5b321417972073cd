"""Check functions and the ids under which they run; a suite collects those of one module."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from checks.result import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Lab:
    """What a check works with: the real numpy and torch, and what the build must be."""

    torch: Any
    np: Any
    variant: str | None = None
    distributions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One check: `run` returns a detail, or raises Failed or NotRun; an optional one may lack its device."""

    id: str
    run: Callable[[Lab], str]
    optional: bool = False


class Suite:
    """The checks of one module, in the order of their definition."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.checks: list[Check] = []

    def check(
        self, name: str, *, over: Sequence[str] = (), optional: bool = False
    ) -> Callable[[Callable[..., str]], Callable[..., str]]:
        """Register a function under `prefix.name`, or once for each case under `prefix.name[case]`."""

        def register(function: Callable[..., str]) -> Callable[..., str]:
            base = f"{self.prefix}.{name}"
            if over:
                for case in over:
                    self.add(f"{base}[{case}]", partial(_call, function, case), optional=optional)
            else:
                self.add(base, function, optional=optional)
            return function

        return register

    def add(self, identity: str, run: Callable[[Lab], str], *, optional: bool = False) -> None:
        """Append a check whose id is given whole."""
        self.checks.append(Check(id=identity, run=run, optional=optional))


def _call(function: Callable[..., str], case: str, lab: Lab) -> str:
    return function(lab, case)


def refuses(
    action: Callable[[], object], kinds: type[BaseException] | tuple[type[BaseException], ...], *words: str
) -> str:
    """Return the message of the refusal; raise Failed if there is none, or another than one with a word of these."""
    try:
        answer = action()
    except kinds as error:
        text = " ".join(str(error).split())
        if not any(word in text for word in words):
            raise Failed(f"refused for another reason ({type(error).__name__}: {text[:200]})") from error
        return f"{type(error).__name__}: {text[:90]}"
    except Exception as error:
        raise Failed(f"refused with {type(error).__name__} ({str(error)[:200]})") from error
    raise Failed(f"not refused: the answer was {type(answer).__name__} {str(answer)[:60]!r}")
