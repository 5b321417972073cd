"""What must be refused on the way between arrays and tensors, and the way out that each refusal leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checks.dtypes import prove_shared, sample
from checks.result import NotRun, same
from checks.suite import Suite, refuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from checks.suite import Lab

suite = Suite("conversion")

# torch.from_dlpack is not among them: it aborts the process on negative strides (torch 2.2 to 2.13).
WAYS: dict[str, Callable[[Lab, Any], Any]] = {
    "from_numpy": lambda lab, array: lab.torch.from_numpy(array),
    "as_tensor": lambda lab, array: lab.torch.as_tensor(array),
    "asarray": lambda lab, array: lab.torch.asarray(array),
    "tensor": lambda lab, array: lab.torch.tensor(array),
}
Refusal = tuple["Callable[[Any], Any]", type[BaseException], str]
ARRAYS: dict[str, Refusal] = {
    "negative_strides": (lambda np: np.arange(6.0)[::-1], ValueError, "negative"),
    "byte_order": (lambda np: np.arange(3, dtype=np.dtype("f4").newbyteorder()), ValueError, "byte order"),
    "byte_strides": (lambda np: np.zeros(3, [("a", "f4"), ("b", "i2")])["a"], ValueError, "not a multiple"),
    "object": (lambda np: np.array([1, None], dtype=object), TypeError, "can't convert"),
    "string": (lambda np: np.array(["a", "bc"]), TypeError, "can't convert"),
    "bytes": (lambda np: np.array([b"a", b"bc"]), TypeError, "can't convert"),
    "datetime": (lambda np: np.array(["2020-01-01"], dtype="M8[D]"), TypeError, "can't convert"),
    "structured": (lambda np: np.zeros(3, [("a", "f4"), ("b", "f4")]), TypeError, "can't convert"),
}


def _array_refusal(name: str, refusal: Refusal) -> None:
    make, kind, words = refusal

    @suite.check(f"refuses.{name}", over=tuple(WAYS))
    def refused(lab: Lab, way: str) -> str:
        array = make(lab.np)
        return refuses(lambda: WAYS[way](lab, array), kind, words)


for _name, _refusal in ARRAYS.items():
    _array_refusal(_name, _refusal)


@suite.check("refuses.longdouble", over=tuple(WAYS))
def longdouble(lab: Lab, way: str) -> str:
    """Refuse extended precision where it is wider than float64."""
    if lab.np.dtype(lab.np.longdouble).itemsize == 8:
        raise NotRun("long double is float64 on this platform")
    array = lab.np.ones(2, dtype=lab.np.longdouble)
    return refuses(lambda: WAYS[way](lab, array), TypeError, "can't convert")


@suite.check("refuses.list")
def not_an_array(lab: Lab) -> str:
    """Refuse a list where an array is wanted."""
    return refuses(lambda: lab.torch.from_numpy([1, 2]), TypeError, "expected np.ndarray")


@suite.check("refuses.dlpack", over=("byte_order", "byte_strides", "object", "string", "datetime", "structured"))
def dlpack_array(lab: Lab, name: str) -> str:
    """Refuse over DLPack what DLPack cannot say."""
    array = ARRAYS[name][0](lab.np)
    return refuses(lambda: lab.torch.from_dlpack(array), (BufferError, RuntimeError), "DLPack")


BACK: dict[str, Callable[[Lab, Any], Any]] = {
    "numpy": lambda _, tensor: tensor.numpy(),
    "np_asarray": lambda lab, tensor: lab.np.asarray(tensor),
}
TENSORS: dict[str, Refusal] = {
    "requires_grad": (lambda torch: torch.ones(2, requires_grad=True), RuntimeError, "requires grad"),
    "bfloat16": (lambda torch: torch.ones(2, dtype=torch.bfloat16), TypeError, "BFloat16"),
    "device": (lambda torch: torch.ones(2, device="meta"), TypeError, "meta"),
    "conjugate": (lambda torch: torch.ones(2, dtype=torch.complex64).conj(), RuntimeError, "conjugate bit"),
    "negated": (lambda torch: torch.ones(2, dtype=torch.complex64).conj().imag, RuntimeError, "negative bit"),
    "sparse": (lambda torch: torch.eye(2).to_sparse(), TypeError, "Sparse"),
}


def _tensor_refusal(name: str, refusal: Refusal) -> None:
    make, kind, words = refusal

    @suite.check(f"refuses.{name}", over=tuple(BACK))
    def refused(lab: Lab, way: str) -> str:
        tensor = make(lab.torch)
        return refuses(lambda: BACK[way](lab, tensor), kind, words)


for _name, _refusal in TENSORS.items():
    _tensor_refusal(_name, _refusal)


@suite.check("refuses.np_from_dlpack", over=("requires_grad", "bfloat16", "device"))
def dlpack_tensor(lab: Lab, name: str) -> str:
    """Refuse over DLPack what NumPy cannot hold."""
    tensor = TENSORS[name][0](lab.torch)
    words = {"requires_grad": "require gradient", "bfloat16": "nsupported", "device": "meta"}[name]
    return refuses(lambda: lab.np.from_dlpack(tensor), (BufferError, RuntimeError), words)


@suite.check("way_out.detach")
def detach(lab: Lab) -> str:
    """Share the memory of a tensor that requires grad after detach."""
    tensor = lab.torch.ones(2, 3, requires_grad=True)
    array = tensor.detach().numpy()
    with lab.torch.no_grad():
        return prove_shared(array, tensor)


@suite.check("way_out.force")
def force(lab: Lab) -> str:
    """Convert with numpy(force=True) what needs detach, conj and neg resolved."""
    torch = lab.torch
    value = torch.tensor([1 + 2j], dtype=torch.complex64)
    same(torch.ones(2, requires_grad=True).numpy(force=True).tolist(), [1.0, 1.0], "requires_grad, forced")
    same(value.conj().numpy(force=True).tolist(), [1 - 2j], "a conjugate, forced")
    same(value.conj().imag.numpy(force=True).tolist(), [-2.0], "a negated view, forced")
    return "requires_grad, conjugate, negated"


@suite.check("way_out.bfloat16")
def bfloat16(lab: Lab) -> str:
    """Convert bfloat16 through float32 without loss."""
    tensor = lab.torch.tensor([1.0, -2.5, 3.140625], dtype=lab.torch.bfloat16)
    array = tensor.float().numpy()
    same(array.dtype.name, "float32", "the dtype")
    same(array.tolist(), [1.0, -2.5, 3.140625], "bfloat16 through float32")
    return "float32"


@suite.check("way_out.copy")
def copied(lab: Lab) -> str:
    """Share the copy of an array with negative strides."""
    array = sample(lab, "float32", (4,))[::-1].copy()
    tensor = lab.torch.from_numpy(array)
    same(tensor.tolist(), [1.0, 0.75, 0.5, 0.25], "the reversed array")
    return prove_shared(array, tensor)


@suite.check("way_out.byte_order")
def byte_order(lab: Lab) -> str:
    """Take an array of foreign byte order after a cast to the native one."""
    foreign = lab.np.arange(3, dtype=lab.np.dtype("f4").newbyteorder())
    same(lab.torch.from_numpy(foreign.astype("=f4")).tolist(), [0.0, 1.0, 2.0], "the values")
    return "astype('=f4')"
