"""Ways to break numpy and torch on purpose, for each conversion check; as a program, it proves each check with them.

`python sabotage.py SCRIPTS` needs numpy and torch, judges every check without, with and again without each sabotage,
and prints JSON: {check: [[sabotage, status before, status during, status after], ...]}.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Breaker = Callable[[Any], Any]
    Sabotage = tuple[str, str, Breaker]  # name, what is replaced, the replacement made from the real thing

LEAKED: list[Any] = []


def owner_of(target: str) -> tuple[Any, str]:
    """Find what a name such as `torch.Tensor.numpy` is an attribute of."""
    first, *middle, last = target.split(".")
    owner: Any = importlib.import_module("numpy" if first == "np" else first)
    for name in middle:
        owner = getattr(owner, name)
    return owner, last


@contextlib.contextmanager
def broken(target: str, breaker: Breaker) -> Iterator[None]:
    """Replace a function, a method or a value, and put it back."""
    owner, name = owner_of(target)
    own, real = name in vars(owner), getattr(owner, name)
    setattr(owner, name, breaker(real))
    try:
        yield
    finally:
        if own:
            setattr(owner, name, real)
        else:
            delattr(owner, name)


def result(change: Callable[[Any], Any]) -> Breaker:
    """Break what a function returns."""
    return lambda real: lambda *args, **options: change(real(*args, **options))


def instead(answer: Callable[..., Any]) -> Breaker:
    """Do something else than the real function."""
    return lambda _: answer


def accepts(answer: Callable[[], Any]) -> Breaker:
    """Take away a refusal: answer where the real function raises."""

    def breaker(real: Any) -> Any:
        def lenient(*args: Any, **options: Any) -> Any:
            try:
                return real(*args, **options)
            except Exception:  # noqa: BLE001 - every refusal is to go
                return answer()

        return lenient

    return breaker


def refuses_otherwise(real: Any) -> Any:
    """Refuse with an error that says nothing of the matter."""

    def other(*args: Any, **options: Any) -> Any:
        try:
            return real(*args, **options)
        except Exception:  # noqa: BLE001 - every refusal is to change
            raise LookupError("something else") from None

    return other


def silenced(real: Any) -> Any:
    """Take away the warnings of a function."""

    def quiet(*args: Any, **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return real(*args, **options)

    return quiet


def leaks(real: Any) -> Any:
    """Keep what a function is given alive for ever."""

    def leaking(*args: Any, **options: Any) -> Any:
        LEAKED.extend(args)
        return real(*args, **options)

    return leaking


def tensor_of() -> Any:
    """Return some tensor."""
    return owner_of("torch.zeros")[0].zeros(1)


def array_of() -> Any:
    """Return some array."""
    return owner_of("np.zeros")[0].zeros(1)


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor: arrays have `strides`, tensors `stride`."""
    return hasattr(value, "stride")


def other_dtype(value: Any) -> Any:
    """Return the same numbers in another dtype."""
    if not is_tensor(value):
        return value.real.astype("float32" if value.dtype.name != "float32" else "float64")
    torch = owner_of("torch.float32")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return value.to(torch.float32 if value.dtype != torch.float32 else torch.float64)


def other_values(value: Any) -> Any:
    """Return other numbers in the same dtype."""
    copy = value.clone() if is_tensor(value) else value.copy()
    copy[(0,) * value.ndim] = 99 if bool((copy[(0,) * value.ndim] == 0) | (copy[(0,) * value.ndim] == 1)) else 0
    if str(value.dtype).endswith("bool"):
        copy[(0,) * value.ndim] = not value[(0,) * value.ndim]
    return copy


def other_shape(value: Any) -> Any:
    """Return the same numbers in another shape."""
    return value.reshape(-1, 1, 1)


def copied(value: Any) -> Any:
    """Return a copy that has the same layout as far as copies keep it."""
    return value.clone() if is_tensor(value) else value.copy()


VALUES = (("dtype", other_dtype), ("values", other_values), ("shape", other_shape))


def values_of(target: str) -> list[Sabotage]:
    """Break dtype, values and shape of what a function returns."""
    return [(f"{target} with other {word}", target, result(change)) for word, change in VALUES]


def copies(*targets: str) -> list[Sabotage]:
    """Break sharing: each function returns a copy."""
    return [(f"{target} copies", target, result(copied)) for target in targets]


def no_refusal(target: str, answer: Callable[[], Any] = tensor_of) -> list[Sabotage]:
    """Break a refusal: taken away, and given for another reason."""
    return [
        (f"{target} accepts", target, accepts(answer)),
        (f"{target} refuses for another reason", target, refuses_otherwise),
    ]


def prove(scripts: str) -> dict[str, list[list[str]]]:
    """Judge each conversion check without, with and without each of its sabotages."""
    sys.path.insert(0, scripts)
    torch, np = importlib.import_module("torch"), importlib.import_module("numpy")
    catalogue, child = importlib.import_module("checks.catalogue"), importlib.import_module("checks.child")
    suite, sabotages = importlib.import_module("checks.suite"), importlib.import_module("sabotages")
    torch.set_warn_always(True)  # as the real worker does
    lab = suite.Lab(torch=torch, np=np)
    answers: dict[str, list[list[str]]] = {}
    for identity in catalogue.ids_of(("conversion",)):
        rows = answers.setdefault(identity, [])
        for name, target, breaker in sabotages.sabotages(identity):
            before = child.judge(identity, lab).status
            with broken(target, breaker):
                during = child.judge(identity, lab)
            rows.append([name, before, during.status, child.judge(identity, lab).status])
    return answers


if __name__ == "__main__":
    sys.modules["sabotage"] = sys.modules["__main__"]
    sys.stdout.write(json.dumps(prove(sys.argv[1])))
