"""Tables of expressions that torch and NumPy must answer alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checks.result import Failed, expect, same

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from checks.suite import Lab, Suite

# (torch's side, NumPy's side); each takes its library and its operands.
Pair = tuple["Callable[[Any, Any], Any]", "Callable[[Any, Any], Any]"]

# Relative and absolute tolerance by the width of one real number: float16, float32, float64.
TOLERANCE = {2: (1e-2, 1e-3), 4: (2e-5, 1e-5), 8: (1e-11, 1e-12)}


class Data:
    """Operands as NumPy arrays; `tensors` gives the same ones to torch."""

    def __init__(self, np: Any) -> None:
        random = np.random.default_rng(20240615)
        self.a = random.standard_normal((4, 5))
        self.b = random.standard_normal((4, 5))
        self.m = random.standard_normal((5, 3))
        self.batch = random.standard_normal((2, 4, 5))
        self.batch_m = random.standard_normal((2, 5, 3))
        self.square = random.standard_normal((4, 4)) + 4 * np.eye(4)
        self.spd = self.square @ self.square.T
        self.v = random.standard_normal(7)
        self.w = random.standard_normal(7)
        self.z = random.standard_normal((4, 5)) + 1j * random.standard_normal((4, 5))
        self.i = random.integers(-9, 10, (4, 5))
        self.j = random.integers(1, 6, (4, 5))
        self.f4 = self.a.astype("float32")
        self.g4 = self.m.astype("float32")
        self.positive = np.abs(self.a) + 0.5

    def tensors(self, torch: Any) -> Any:
        """Return an object with the same names that holds tensors."""
        other = Data.__new__(Data)
        other.__dict__.update({name: torch.from_numpy(array.copy()) for name, array in self.__dict__.items()})
        return other


def alike(lab: Lab, found: Any, wanted: Any) -> str:
    """Raise Failed unless torch's answer has NumPy's shape, dtype and values; return the shape in words."""
    if isinstance(wanted, (tuple, list)):
        same(len(found), len(wanted), "the number of answers")
        return ", ".join(alike(lab, one, other) for one, other in zip(found, wanted, strict=True))
    expect(isinstance(found, lab.torch.Tensor), f"torch answered with {type(found).__name__}")
    wanted = lab.np.asarray(wanted)
    found = found.resolve_conj().resolve_neg().numpy()
    same(found.shape, wanted.shape, "the shape")
    same(found.dtype.name, wanted.dtype.name, "the dtype")
    if wanted.dtype.kind in "biu":
        expect((found == wanted).all(), f"torch has {found.tolist()}, NumPy {wanted.tolist()}"[:300])
    else:
        close(lab, found, wanted)
    return f"{wanted.dtype.name}{list(wanted.shape)}"


def close(lab: Lab, found: Any, wanted: Any) -> None:
    """Raise Failed unless two arrays agree within the tolerance of their dtype."""
    width = wanted.dtype.itemsize // (2 if wanted.dtype.kind == "c" else 1)
    relative, absolute = TOLERANCE[min(width, 8)]
    if not lab.np.allclose(found, wanted, rtol=relative, atol=absolute, equal_nan=True):
        worst = float(lab.np.nanmax(lab.np.abs(found - wanted)))
        raise Failed(f"torch and NumPy differ by up to {worst:.3g}, allowed {relative:g} relative")


def add_pairs(suite: Suite, family: str, pairs: Mapping[str, Pair]) -> None:
    """Register one check for each pair of expressions."""

    @suite.check(family, over=tuple(pairs))
    def compare(lab: Lab, name: str) -> str:
        ours, theirs = pairs[name]
        data = Data(lab.np)
        wanted = theirs(lab.np, data)
        return alike(lab, ours(lab.torch, data.tensors(lab.torch)), wanted)
