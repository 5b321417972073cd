"""The common dtypes, sample arrays of each, and proofs that memory is shared or is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checks.result import Failed, expect, same

if TYPE_CHECKING:
    from checks.suite import Lab

INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
FLOATS = ("float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
DTYPES = ("bool", *INTEGERS, *FLOATS, *COMPLEX)
# torch has them since 2.3 and refused them before.
UNSIGNED = ("uint16", "uint32", "uint64")


def sample(lab: Lab, name: str, shape: tuple[int, ...] = (2, 3)) -> Any:
    """Return a fresh array whose neighbours differ, exact in every dtype."""
    count = 1
    for length in shape:
        count *= length
    numbers = lab.np.arange(1, count + 1)
    if name == "bool":
        numbers = numbers % 2 == 1
    elif name in COMPLEX:
        numbers = numbers - 2j * numbers
    elif name in FLOATS:
        numbers = numbers / 4
    return lab.np.array(numbers, dtype=name).reshape(shape)


def sample_tensor(lab: Lab, name: str, shape: tuple[int, ...] = (2, 3)) -> Any:
    """Return a fresh tensor with the values of `sample`, made without NumPy's memory."""
    return lab.torch.tensor(sample(lab, name, shape).tolist(), dtype=getattr(lab.torch, name)).reshape(shape)


def same_values(array: Any, tensor: Any) -> None:
    """Raise Failed unless an array and a tensor have one shape, one dtype and the same values."""
    same(str(tensor.dtype), f"torch.{array.dtype.name}", "the tensor's dtype")
    same(tuple(tensor.shape), tuple(array.shape), "the tensor's shape")
    same(tensor.tolist(), array.tolist(), "the tensor's content")


def _corners(array: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (0,) * array.ndim, tuple(length - 1 for length in array.shape)


def _another(value: Any) -> Any:
    return not value if isinstance(value, bool) else value + 1


def _write_array(array: Any, tensor: Any, place: tuple[int, ...]) -> bool:
    """Write into the array; return whether the tensor shows it."""
    before = tensor[place].item()
    array[place] = _another(array[place].item())
    expect(array[place].item() != before, "writing to the array had no effect on the array itself")
    return bool(tensor[place].item() == array[place].item())


def _write_tensor(array: Any, tensor: Any, place: tuple[int, ...]) -> bool:
    """Write into the tensor; return whether the array shows it."""
    before = array[place].item()
    tensor[place] = _another(tensor[place].item())
    expect(tensor[place].item() != before, "writing to the tensor had no effect on the tensor itself")
    return bool(array[place].item() == tensor[place].item())


def prove_shared(array: Any, tensor: Any) -> str:
    """Write on either side at both ends and see it on the other; a read-only array is compared by address."""
    note = "written on both sides"
    for place in _corners(array):
        if array.flags.writeable:
            expect(_write_array(array, tensor, place), f"a write to the array at {place} is not seen in the tensor")
        else:
            note = "written on torch's side; NumPy's view is read-only, its address the same"
            same(array.__array_interface__["data"][0], tensor.data_ptr(), "the array's address")
        expect(_write_tensor(array, tensor, place), f"a write to the tensor at {place} is not seen in the array")
    return note


def prove_apart(array: Any, tensor: Any) -> str:
    """Write on either side and see that the other keeps its content."""
    first, last = _corners(array)
    before = tensor.tolist()
    _write_array(array, tensor, first)
    if tensor.tolist() != before:
        raise Failed("a write to the array is seen in the tensor: it is not a copy")
    before = array.tolist()
    _write_tensor(array, tensor, last)
    if array.tolist() != before:
        raise Failed("a write to the tensor is seen in the array: it is not a copy")
    return "writes on either side stay there"
