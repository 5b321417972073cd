"""Which dtype comes out: Python numbers, NumPy's integer names, NumPy scalars, and NEP 50."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from checks.dtypes import COMPLEX, DTYPES, FLOATS, sample
from checks.result import Failed, expect, same
from checks.suite import Suite, refuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from checks.suite import Lab

suite = Suite("conversion")

PYTHON: dict[str, tuple[Callable[[Any], Any], str]] = {
    "int": (lambda torch: torch.tensor(3), "int64"),
    "ints": (lambda torch: torch.tensor([1, 2]), "int64"),
    "as_tensor_ints": (lambda torch: torch.as_tensor([1, 2]), "int64"),
    "float": (lambda torch: torch.tensor(1.5), "float32"),
    "mixed": (lambda torch: torch.tensor([1, 2.5]), "float32"),
    "bool": (lambda torch: torch.tensor([True, False]), "bool"),
    "complex": (lambda torch: torch.tensor([1j]), "complex64"),
    "nothing": (lambda torch: torch.tensor([]), "float32"),
    "arange_int": (lambda torch: torch.arange(3), "int64"),
    "arange_float": (lambda torch: torch.arange(0, 1, 0.5), "float32"),
    "full_int": (lambda torch: torch.full((2,), 7), "int64"),
    "argmax": (lambda torch: torch.tensor([0.0, 1.0]).argmax(), "int64"),
    "int_sum": (lambda torch: torch.tensor([1], dtype=torch.int32).sum(), "int64"),
}


@suite.check("infer.python", over=tuple(PYTHON))
def python_numbers(lab: Lab, case: str) -> str:
    """Infer the dtype of Python numbers: int64 on every platform, float32 unless another default is set."""
    make, wanted = PYTHON[case]
    same(str(make(lab.torch).dtype), f"torch.{wanted}", f"the dtype of {case}")
    return wanted


@suite.check("infer.default_dtype")
def default_dtype(lab: Lab) -> str:
    """Follow set_default_dtype for Python floats, and leave arrays alone."""
    before = lab.torch.get_default_dtype()
    try:
        lab.torch.set_default_dtype(lab.torch.float64)
        same(str(lab.torch.tensor(1.5).dtype), "torch.float64", "the dtype of a float under a default of float64")
        same(str(lab.torch.tensor(lab.np.float32(1.5)).dtype), "torch.float32", "the dtype of np.float32 under it")
    finally:
        lab.torch.set_default_dtype(before)
    return "float64"


@suite.check("infer.numpy_ints")
def numpy_ints(lab: Lab) -> str:
    """Take NumPy's default integer: int64 everywhere, but int32 on Windows before NumPy 2."""
    narrow = sys.platform == "win32" and _numpy(lab) < 2
    wanted = "int32" if narrow else "int64"
    same(str(lab.torch.from_numpy(lab.np.array([1, 2])).dtype), f"torch.{wanted}", "the dtype of np.array([1, 2])")
    same(str(lab.torch.tensor(lab.np.arange(3)).dtype), f"torch.{wanted}", "the dtype of np.arange(3)")
    return wanted


@suite.check("infer.numpy_floats")
def numpy_floats(lab: Lab) -> str:
    """Take NumPy's default float as float64, not as torch's default."""
    same(str(lab.torch.as_tensor(lab.np.array([1.5])).dtype), "torch.float64", "the dtype of np.array([1.5])")
    same(str(lab.torch.tensor(lab.np.array([1.5])).dtype), "torch.float64", "the dtype of its copy")
    return "float64"


@suite.check("infer.c_types", over=("byte", "short", "intc", "int_", "intp", "longlong"))
def c_types(lab: Lab, name: str) -> str:
    """Map each C integer to the dtype of its size: two of them share one size on every platform."""
    array = lab.np.array([1, -2], dtype=getattr(lab.np, name))
    tensor = lab.torch.from_numpy(array)
    same(str(tensor.dtype), f"torch.int{8 * array.itemsize}", f"the dtype of np.{name}")
    same(tensor.tolist(), [1, -2], "the values")
    return f"int{8 * array.itemsize}"


@suite.check("scalar.tensor", over=DTYPES)
def scalar_tensor(lab: Lab, dtype: str) -> str:
    """Keep the dtype of a NumPy scalar."""
    scalar = sample(lab, dtype)[0, 0]
    for way in ("tensor", "as_tensor"):
        tensor = getattr(lab.torch, way)(scalar)
        same(str(tensor.dtype), f"torch.{dtype}", f"the dtype of torch.{way} of np.{dtype}")
        same((tuple(tensor.shape), tensor.item()), ((), scalar.item()), f"shape and value of torch.{way}")
    return dtype


@suite.check("scalar.item", over=DTYPES)
def scalar_item(lab: Lab, dtype: str) -> str:
    """Give back a Python number of the same kind as NumPy's."""
    array = sample(lab, dtype)
    value = lab.torch.tensor(array.tolist(), dtype=getattr(lab.torch, dtype))[0, 0].item()
    kind = bool if dtype == "bool" else complex if dtype in COMPLEX else float if dtype in FLOATS else int
    same((type(value), value), (kind, array[0, 0].item()), "item()")
    return kind.__name__


@suite.check("scalar.lists")
def scalar_lists(lab: Lab) -> str:
    """Take the dtype of the NumPy scalars in a list."""
    np, torch = lab.np, lab.torch
    same(str(torch.tensor([np.float64(1), np.float64(2)]).dtype), "torch.float64", "the dtype of two np.float64")
    same(str(torch.tensor([np.int32(1), np.int32(2)]).dtype), "torch.int32", "the dtype of two np.int32")
    same(str(torch.tensor([np.int32(1), np.float64(2)]).dtype), "torch.float64", "the dtype of int32 and float64")
    return "float64, int32, float64"


@suite.check("scalar.arithmetic")
def scalar_arithmetic(lab: Lab) -> str:
    """Treat a NumPy scalar beside a tensor as a number, on either side."""
    np, torch = lab.np, lab.torch
    tensor = torch.tensor([1.0, 2.0])
    for answer in (tensor * np.float64(2), np.float64(2) * tensor):
        expect(isinstance(answer, torch.Tensor), f"the product is a {type(answer).__name__}, expected a tensor")
        same((str(answer.dtype), answer.tolist()), ("torch.float32", [2.0, 4.0]), "the product with np.float64(2)")
    whole = torch.tensor([1, 2]) + np.float64(0.5)
    same((str(whole.dtype), whole.tolist()), ("torch.float32", [1.5, 2.5]), "an integer tensor plus np.float64(0.5)")
    return "float32"


@suite.check("scalar.index")
def scalar_index(lab: Lab) -> str:
    """Index, size and fill with NumPy scalars and arrays."""
    np, torch = lab.np, lab.torch
    tensor = torch.arange(3)
    same(tensor[np.int64(1)].item(), 1, "an np.int64 as index")
    same(tensor[np.array([2, 0])].tolist(), [2, 0], "an index array")
    same(tensor[np.array([True, False, True])].tolist(), [0, 2], "a mask array")
    same(tuple(torch.zeros(np.int64(3), np.int32(2)).shape), (3, 2), "a size of NumPy scalars")
    tensor[0] = np.int16(9)
    same(tensor.tolist(), [9, 1, 2], "a NumPy scalar assigned")
    same(torch.full((2,), np.float64(2.5)).tolist(), [2.5, 2.5], "torch.full of a NumPy scalar")
    return "index, mask, size, fill"


def _numpy(lab: Lab) -> int:
    return int(lab.np.__version__.split(".")[0])


def _tensor_dtype(lab: Lab, value: Any) -> str:
    return str(lab.torch.tensor(value).dtype).removeprefix("torch.")


@suite.check("nep50.python_float")
def nep50_float(lab: Lab) -> str:
    """Cross with np.float32(3) + 3.0: float32 under NEP 50 (NumPy 2), float64 before."""
    wanted = "float32" if _numpy(lab) >= 2 else "float64"
    same(_tensor_dtype(lab, lab.np.float32(3) + 3.0), wanted, "the dtype of np.float32(3) + 3.0 as a tensor")
    return wanted


@suite.check("nep50.numpy_scalar")
def nep50_scalar(lab: Lab) -> str:
    """Cross with a float32 array plus np.float64(3): float64 under NEP 50 (NumPy 2), float32 before."""
    wanted = "float64" if _numpy(lab) >= 2 else "float32"
    total = lab.np.ones(2, dtype="float32") + lab.np.float64(3)
    same(str(lab.torch.from_numpy(total).dtype), f"torch.{wanted}", "the dtype of the sum as a tensor")
    return wanted


@suite.check("nep50.overflow")
def nep50_overflow(lab: Lab) -> str:
    """Cross with uint8 + 300: refused under NEP 50 (NumPy 2), a wider integer before."""
    narrow = lab.np.array([1], dtype="uint8")
    if _numpy(lab) >= 2:
        return refuses(lambda: lab.torch.tensor((narrow + 300).tolist()), OverflowError, "out of bounds")
    total = narrow + 300
    same((total.dtype.name, total.tolist()), ("uint16", [301]), "uint8 array + 300")
    same(lab.torch.tensor(total.astype("int32")).tolist(), [301], "the sum as a tensor")
    return "uint16"


@suite.check("nep50.tensor_keeps")
def nep50_tensor(lab: Lab) -> str:
    """Keep the tensor's dtype beside any number, before and after NEP 50."""
    tensor = lab.torch.ones(2)
    for number in (3.0, 3, lab.np.float64(3), lab.np.int64(3), lab.torch.tensor(3.0, dtype=lab.torch.float64)):
        answer = tensor + number
        if str(answer.dtype) != "torch.float32":
            raise Failed(f"float32 + {type(number).__name__} is {answer.dtype}, expected torch.float32")
    return "float32"


@suite.check("nep50.tensor_range")
def nep50_range(lab: Lab) -> str:
    """Refuse a Python integer that does not fit the dtype asked for."""
    return refuses(lambda: lab.torch.tensor([300], dtype=lab.torch.uint8), (RuntimeError, OverflowError), "overflow")
