"""Arrays to tensors and back, for every common dtype: values, shared memory, promised copies, lifetimes."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

from checks.dtypes import DTYPES, UNSIGNED, prove_apart, prove_shared, same_values, sample, sample_tensor
from checks.result import expect, same
from checks.suite import Suite, refuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from checks.suite import Lab

suite = Suite("conversion")

# Ways from an array to a tensor that promise to share, and those that promise a copy.
SHARING: dict[str, Callable[[Lab, Any], Any]] = {
    "from_numpy": lambda lab, array: lab.torch.from_numpy(array),
    "as_tensor": lambda lab, array: lab.torch.as_tensor(array),
    "asarray": lambda lab, array: lab.torch.asarray(array),
    "from_dlpack": lambda lab, array: lab.torch.from_dlpack(array),
}
COPYING: dict[str, Callable[[Lab, Any], Any]] = {
    "tensor": lambda lab, array: lab.torch.tensor(array),
    "asarray_copy": lambda lab, array: lab.torch.asarray(array, copy=True),
}
# Ways from a tensor to an array.
SHARING_BACK: dict[str, Callable[[Lab, Any], Any]] = {
    "numpy": lambda _, tensor: tensor.numpy(),
    "np_asarray": lambda lab, tensor: lab.np.asarray(tensor),
    "np_from_dlpack": lambda lab, tensor: lab.np.from_dlpack(tensor),
}
COPYING_BACK: dict[str, Callable[[Lab, Any], Any]] = {
    "np_array": lambda lab, tensor: lab.np.array(tensor),
    "clone_numpy": lambda _, tensor: tensor.clone().numpy(),
}


def _to_tensor(name: str, way: Callable[[Lab, Any], Any], proof: Callable[[Any, Any], str], word: str) -> None:
    @suite.check(f"{name}.values", over=DTYPES)
    def values(lab: Lab, dtype: str) -> str:
        array = sample(lab, dtype)
        tensor = way(lab, array)
        same_values(array, tensor)
        return str(tensor.dtype)

    @suite.check(f"{name}.{word}", over=DTYPES)
    def memory(lab: Lab, dtype: str) -> str:
        array = sample(lab, dtype)
        return proof(array, way(lab, array))


def _to_array(name: str, way: Callable[[Lab, Any], Any], proof: Callable[[Any, Any], str], word: str) -> None:
    @suite.check(f"{name}.values", over=DTYPES)
    def values(lab: Lab, dtype: str) -> str:
        tensor = sample_tensor(lab, dtype)
        array = way(lab, tensor)
        same(type(array), lab.np.ndarray, "the type")
        same_values(array, tensor)
        same(array.tolist(), sample(lab, dtype).tolist(), "the array's content")
        return str(array.dtype)

    @suite.check(f"{name}.{word}", over=DTYPES)
    def memory(lab: Lab, dtype: str) -> str:
        tensor = sample_tensor(lab, dtype)
        return proof(way(lab, tensor), tensor)


for _name, _way in SHARING.items():
    _to_tensor(_name, _way, prove_shared, "shares")
for _name, _way in COPYING.items():
    _to_tensor(_name, _way, prove_apart, "copies")
for _name, _way in SHARING_BACK.items():
    _to_array(_name, _way, prove_shared, "shares")
for _name, _way in COPYING_BACK.items():
    _to_array(_name, _way, prove_apart, "copies")


@suite.check("unsigned", over=UNSIGNED)
def unsigned(lab: Lab, dtype: str) -> str:
    """Share the wider unsigned integers where torch has them (2.3 and later); see them refused where not."""
    array = lab.np.array([1, 2, 3], dtype=dtype)
    if not hasattr(lab.torch, dtype):
        return "this torch has none: " + refuses(lambda: lab.torch.from_numpy(array), TypeError, "can't convert")
    tensor = lab.torch.from_numpy(array)
    same_values(array, tensor)
    same(tensor.numpy().dtype.name, dtype, "the dtype on the way back")
    same(tensor.data_ptr(), array.__array_interface__["data"][0], "the tensor's address")
    array[0] = 7
    same(tensor.tolist(), [7, 2, 3], "the tensor after a write to the array")
    return "shared"


@suite.check("as_tensor.cast_copies")
def as_tensor_cast(lab: Lab) -> str:
    """Copy where as_tensor must change the dtype."""
    array = sample(lab, "float64")
    tensor = lab.torch.as_tensor(array, dtype=lab.torch.float32)
    same(str(tensor.dtype), "torch.float32", "the dtype asked for")
    return prove_apart(array, tensor)


@suite.check("asarray.copy_false_shares")
def asarray_no_copy(lab: Lab) -> str:
    """Share where asarray is told never to copy."""
    array = sample(lab, "float64")
    return prove_shared(array, lab.torch.asarray(array, copy=False))


@suite.check("asarray.copy_false_refuses")
def asarray_no_copy_cast(lab: Lab) -> str:
    """Refuse where asarray is told never to copy and would have to."""
    array = sample(lab, "float64")
    return refuses(lambda: lab.torch.asarray(array, dtype=lab.torch.float32, copy=False), ValueError, "can't alias")


@suite.check("frombuffer.shares")
def frombuffer(lab: Lab) -> str:
    """Share a plain buffer with both libraries at once."""
    buffer = bytearray(12)
    tensor = lab.torch.frombuffer(buffer, dtype=lab.torch.float32)
    return prove_shared(lab.np.frombuffer(buffer, dtype="float32"), tensor)


@suite.check("round_trip.shares")
def round_trip(lab: Lab) -> str:
    """Come back to the same memory through both libraries."""
    array = sample(lab, "float32")
    back = lab.torch.from_numpy(array).numpy()
    expect(lab.np.shares_memory(array, back), "the array that came back lies elsewhere")
    back[0, 0] = 99
    same(array[0, 0].item(), 99.0, "the first array after a write to the second")
    return "one buffer"


@suite.check("lifetime.array")
def array_lifetime(lab: Lab) -> str:
    """Keep the array alive as long as the tensor, and no longer."""
    array = sample(lab, "float64", (64,))
    wanted, alive = array.tolist(), weakref.ref(array)
    tensor = lab.torch.from_numpy(array)
    del array
    gc.collect()
    expect(alive() is not None, "the array was freed while a tensor uses its memory")
    same(tensor.tolist(), wanted, "the tensor after its array's name is gone")
    del tensor
    gc.collect()
    expect(alive() is None, "the array is still alive after its tensor is gone: it leaks")
    return "alive with its tensor, freed with it"


@suite.check("lifetime.tensor")
def tensor_lifetime(lab: Lab) -> str:
    """Keep a tensor's memory alive as long as the array that views it, and no longer."""
    tensor = sample_tensor(lab, "float64", (64,))
    wanted, address = tensor.tolist(), tensor.data_ptr()
    first = weakref.ref(tensor)
    array = tensor.numpy()
    expect(array.base is not None, "the array owns its memory: it does not view the tensor's")
    base = weakref.ref(array.base)
    del tensor
    gc.collect()
    expect(base() is not None, "the tensor was freed while an array views its memory")
    same(array.__array_interface__["data"][0], address, "the array's address")
    same(array.tolist(), wanted, "the array after its tensor's name is gone")
    del array
    gc.collect()
    expect(base() is None and first() is None, "the tensor is still alive after its array is gone: it leaks")
    return "alive with its array, freed with it"


@suite.check("ufunc.returns_tensor")
def ufunc(lab: Lab) -> str:
    """Apply a NumPy function to a tensor and get a tensor of the same dtype."""
    tensor = lab.torch.tensor([0.0, 1.0, 4.0], dtype=lab.torch.float32)
    answer = lab.np.sqrt(tensor)
    expect(isinstance(answer, lab.torch.Tensor), f"np.sqrt of a tensor is a {type(answer).__name__}")
    same(str(answer.dtype), "torch.float32", "the dtype of np.sqrt of a tensor")
    same(answer.tolist(), [0.0, 1.0, 2.0], "np.sqrt of a tensor")
    return "torch.float32"
