"""Memory layouts across the bridge: 0-d, empty, strided, Fortran order, transposed, offset, read-only."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from checks.dtypes import prove_shared, same_values, sample, sample_tensor
from checks.result import Failed, expect, same
from checks.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Callable

    from checks.suite import Lab

suite = Suite("conversion")

# Each layout as a function of an array and of a tensor of shape (4, 6), so that both give the same view.
VIEWS: dict[str, Callable[[Any], Any]] = {
    "strided": lambda block: block[::2, 1::3],
    "transposed": lambda block: block.T,
    "offset": lambda block: block[1:3, 2:5],
    "row": lambda block: block[2],
    "column": lambda block: block[:, 3],
    "permuted": lambda block: block.reshape(2, 2, 6).swapaxes(0, 2),
}


def _same_strides(array: Any, tensor: Any) -> None:
    elements = tuple(step // array.itemsize for step in array.strides)
    same(tuple(tensor.stride()), elements, "the tensor's stride in elements")


@suite.check("layout.to_torch", over=tuple(VIEWS))
def view_to_torch(lab: Lab, layout: str) -> str:
    """Share a view of an array with its strides."""
    array = VIEWS[layout](sample(lab, "float32", (4, 6)))
    tensor = lab.torch.from_numpy(array)
    same_values(array, tensor)
    _same_strides(array, tensor)
    prove_shared(array, tensor)
    return f"stride {tuple(tensor.stride())}"


@suite.check("layout.to_numpy", over=tuple(VIEWS))
def view_to_numpy(lab: Lab, layout: str) -> str:
    """Share a view of a tensor with its strides."""
    tensor = VIEWS[layout](sample_tensor(lab, "float32", (4, 6)))
    array = tensor.numpy()
    same_values(array, tensor)
    _same_strides(array, tensor)
    prove_shared(array, tensor)
    return f"strides {array.strides}"


@suite.check("layout.fortran.to_torch")
def fortran_to_torch(lab: Lab) -> str:
    """Share an array in Fortran order as a tensor that is not contiguous."""
    array = lab.np.asfortranarray(sample(lab, "float64", (3, 4)))
    tensor = lab.torch.from_numpy(array)
    same_values(array, tensor)
    same(tuple(tensor.stride()), (1, 3), "the stride of a Fortran array of shape (3, 4)")
    expect(not tensor.is_contiguous(), "a Fortran array gave a contiguous tensor")
    return prove_shared(array, tensor)


@suite.check("layout.fortran.to_numpy")
def fortran_to_numpy(lab: Lab) -> str:
    """Share a tensor whose first axis is the fastest as an array in Fortran order."""
    tensor = sample_tensor(lab, "float64", (4, 3)).t()
    array = tensor.numpy()
    same_values(array, tensor)
    expect(array.flags.f_contiguous and not array.flags.c_contiguous, "the array is not in Fortran order")
    return prove_shared(array, tensor)


@suite.check("layout.scalar.to_torch")
def scalar_to_torch(lab: Lab) -> str:
    """Share a 0-d array as a 0-d tensor."""
    array = lab.np.array(2.5)
    tensor = lab.torch.from_numpy(array)
    same(tensor.dim(), 0, "the tensor's number of axes")
    same_values(array, tensor)
    return prove_shared(array, tensor)


@suite.check("layout.scalar.to_numpy")
def scalar_to_numpy(lab: Lab) -> str:
    """Share a 0-d tensor as a 0-d array, not as a scalar."""
    tensor = lab.torch.tensor(2.5, dtype=lab.torch.float64)
    array = tensor.numpy()
    same(type(array), lab.np.ndarray, "the type")
    same(array.shape, (), "the array's shape")
    same_values(array, tensor)
    return prove_shared(array, tensor)


EMPTY = ((0,), (0, 3), (3, 0, 2))


@suite.check("layout.empty.to_torch")
def empty_to_torch(lab: Lab) -> str:
    """Keep shape and dtype of arrays without elements."""
    for shape in EMPTY:
        for name in ("float32", "int64"):
            same_values(lab.np.zeros(shape, dtype=name), lab.torch.from_numpy(lab.np.zeros(shape, dtype=name)))
    return ", ".join(map(str, EMPTY))


@suite.check("layout.empty.to_numpy")
def empty_to_numpy(lab: Lab) -> str:
    """Keep shape and dtype of tensors without elements."""
    for shape in EMPTY:
        for name in ("float32", "int64"):
            tensor = lab.torch.zeros(shape, dtype=getattr(lab.torch, name))
            array = tensor.numpy()
            same(array.shape, shape, "the array's shape")
            same(array.dtype.name, name, "the array's dtype")
    return ", ".join(map(str, EMPTY))


@suite.check("layout.expanded.to_numpy")
def expanded(lab: Lab) -> str:
    """Share an expanded tensor as an array with a stride of 0."""
    tensor = lab.torch.tensor([[1.0], [2.0]]).expand(2, 5)
    array = tensor.numpy()
    same_values(array, tensor)
    same(array.strides, (4, 0), "the array's strides")
    same(array.__array_interface__["data"][0], tensor.data_ptr(), "the array's address")
    return f"strides {array.strides}"


READING: dict[str, Callable[[Lab, Any], Any]] = {
    "from_numpy": lambda lab, array: lab.torch.from_numpy(array),
    "as_tensor": lambda lab, array: lab.torch.as_tensor(array),
    "asarray": lambda lab, array: lab.torch.asarray(array),
}


def _read_only(lab: Lab) -> Any:
    array = sample(lab, "float64")
    array.flags.writeable = False
    return array


@suite.check("read_only.warns", over=tuple(READING))
def read_only(lab: Lab, way: str) -> str:
    """Warn that a read-only array gives a tensor that can be written."""
    array = _read_only(lab)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tensor = READING[way](lab, array)
    texts = [str(item.message) for item in caught if issubclass(item.category, UserWarning)]
    expect(any("not writable" in text for text in texts), "no warning that the array is not writable")
    same_values(array, tensor)
    return "UserWarning"


@suite.check("read_only.tensor_copies")
def read_only_copy(lab: Lab) -> str:
    """Copy a read-only array in silence where a copy is promised; the array keeps its content."""
    array = _read_only(lab)
    wanted = array.tolist()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tensor = lab.torch.tensor(array)
    same([str(item.message)[:60] for item in caught], [], "the warnings")
    tensor += 1
    same(array.tolist(), wanted, "the read-only array after a write to its copy")
    return "no warning"


@suite.check("read_only.from_dlpack")
def read_only_dlpack(lab: Lab) -> str:
    """Refuse a read-only array over DLPack, or (torch and numpy that both speak DLPack 1.0) share it."""
    array = _read_only(lab)
    try:
        tensor = lab.torch.from_dlpack(array)
    except BufferError as error:
        return f"BufferError: {str(error)[:60]}"
    if tensor.data_ptr() != array.__array_interface__["data"][0]:
        raise Failed("neither refused nor shared: the tensor lies elsewhere")
    same_values(array, tensor)
    return "shared"
