"""Which sabotages belong to which conversion check; needs neither numpy nor torch to be listed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sabotage import (
    accepts,
    array_of,
    copied,
    copies,
    instead,
    leaks,
    no_refusal,
    other_dtype,
    other_shape,
    other_values,
    owner_of,
    result,
    silenced,
    values_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sabotage import Sabotage


def _torch() -> Any:
    return owner_of("torch.zeros")[0]


def _np() -> Any:
    return owner_of("np.zeros")[0]


def _alias(array: Any, *_: Any, **__: Any) -> Any:
    return _torch().from_numpy(array)


def _low_words(array: Any, *_: Any, **__: Any) -> Any:
    """Share the low words of float64 numbers as if they were float32 ones."""
    return _torch().from_numpy(array.view("float32")[..., ::2])


def _array_alias(real: Any) -> Any:
    def alias(value: Any, *args: Any, **options: Any) -> Any:
        return value.detach().numpy() if isinstance(value, _torch().Tensor) else real(value, *args, **options)

    return alias


def _array_changed(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def breaker(real: Any) -> Any:
        def changed(value: Any, *args: Any, **options: Any) -> Any:
            answer = real(value, *args, **options)
            return change(answer) if isinstance(value, _torch().Tensor) else answer

        return changed

    return breaker


def _other_generation(real: Any) -> str:
    return "1.26.4" if int(str(real).split(".", maxsplit=1)[0]) >= 2 else "2.1.3"


def _without(option: str) -> Callable[[Any], Any]:
    def breaker(real: Any) -> Any:
        def deaf(*args: Any, **options: Any) -> Any:
            options.pop(option, None)
            return real(*args, **options)

        return deaf

    return breaker


def _on_other_arrays(real: Any) -> Any:
    """Convert what the real function refuses, through int64."""

    def converts(array: Any) -> Any:
        return real(array.astype("int64"))

    return converts


def _double(value: Any) -> Any:
    return value.double() if hasattr(value, "double") else value


def _swapped(real: Any) -> Any:
    return lambda array: real(array.byteswap())


def _ways() -> dict[str, list[Sabotage]]:
    """Return the sabotages of values, sharing and copies on every way."""
    found: dict[str, list[Sabotage]] = {}
    for way in ("from_numpy", "as_tensor", "asarray", "from_dlpack"):
        found[f"{way}.values"] = values_of(f"torch.{way}")
        found[f"{way}.shares"] = copies(f"torch.{way}")
    for name, target in {"tensor": "torch.tensor", "asarray_copy": "torch.asarray"}.items():
        found[f"{name}.values"] = values_of(target)
        found[f"{name}.copies"] = [(f"{target} aliases", target, instead(_alias))]
    for name, target in {
        "numpy": "torch.Tensor.numpy",
        "np_asarray": "torch.Tensor.__array__",
        "np_from_dlpack": "np.from_dlpack",
    }.items():
        found[f"{name}.values"] = values_of(target)
        found[f"{name}.shares"] = copies(target)
    found["np_array.values"] = [
        (f"np.array with other {word}", "np.array", _array_changed(change))
        for word, change in (("dtype", other_dtype), ("values", other_values), ("shape", other_shape))
    ]
    found["np_array.copies"] = [("np.array aliases", "np.array", _array_alias)]
    found["clone_numpy.values"] = values_of("torch.Tensor.clone")
    found["clone_numpy.copies"] = [("clone aliases", "torch.Tensor.clone", instead(lambda tensor: tensor.detach()))]
    return found


def _layouts() -> dict[str, list[Sabotage]]:
    there, back = "torch.from_numpy", "torch.Tensor.numpy"
    packed: list[Sabotage] = [
        (
            "from_numpy packs",
            there,
            lambda real: lambda array: real(_np().ascontiguousarray(array).reshape(array.shape)),
        ),
        ("from_numpy copies", there, result(copied)),
    ]
    packed_back: list[Sabotage] = [
        ("numpy() packs", back, result(lambda array: _np().array(array, order="C"))),
        ("numpy() copies", back, result(copied)),
    ]
    scalar: list[Sabotage] = [("from_numpy gives 1-d", there, result(lambda tensor: tensor.reshape(1)))]
    scalar_back: list[Sabotage] = [
        ("numpy() gives 1-d", back, result(lambda array: array.reshape(1))),
        ("numpy() gives a scalar", back, result(lambda array: array[()])),
    ]
    empty: list[Sabotage] = [
        ("from_numpy flattens", there, result(lambda tensor: tensor.reshape(-1))),
        ("from_numpy changes the dtype", there, result(other_dtype)),
    ]
    empty_back: list[Sabotage] = [
        ("numpy() flattens", back, result(lambda array: array.reshape(-1))),
        ("numpy() changes the dtype", back, result(other_dtype)),
    ]
    # Packing tells nothing of arrays that are packed already; all others must notice it.
    return {
        "layout.to_torch": packed[1:],
        "layout.to_torch[strided]": packed,
        "layout.to_numpy": packed_back,
        "layout.fortran.to_torch": packed,
        "layout.fortran.to_numpy": packed_back,
        "layout.scalar.to_torch": [*scalar, packed[1]],
        "layout.scalar.to_numpy": [*scalar_back, packed_back[1]],
        "layout.empty.to_torch": empty,
        "layout.empty.to_numpy": empty_back,
        "layout.expanded.to_numpy": packed_back,
        "read_only.tensor_copies": [("tensor aliases", "torch.tensor", instead(_alias))],
        "read_only.from_dlpack": [
            ("from_dlpack copies", "torch.from_dlpack", instead(lambda array: _torch().tensor(array))),
        ],
    }


def _single() -> dict[str, list[Sabotage]]:
    return {
        "unsigned": [("from_numpy widens", "torch.from_numpy", _on_other_arrays)],
        "as_tensor.cast_copies": [
            ("as_tensor ignores the dtype", "torch.as_tensor", instead(_alias)),
            ("as_tensor shares the bytes", "torch.as_tensor", instead(_low_words)),
        ],
        "asarray.copy_false_shares": copies("torch.asarray"),
        "asarray.copy_false_refuses": [("asarray ignores copy=False", "torch.asarray", _without("copy"))],
        "frombuffer.shares": copies("torch.frombuffer"),
        "round_trip.shares": copies("torch.from_numpy", "torch.Tensor.numpy"),
        "lifetime.array": [("from_numpy leaks", "torch.from_numpy", leaks), *copies("torch.from_numpy")],
        "lifetime.tensor": [("numpy() leaks", "torch.Tensor.numpy", leaks), *copies("torch.Tensor.numpy")],
        "ufunc.returns_tensor": [
            ("__array_wrap__ gives an array", "torch.Tensor.__array_wrap__", instead(lambda _, array, *__: array)),
            ("__array_wrap__ gives another dtype", "torch.Tensor.__array_wrap__", result(other_dtype)),
        ],
        "refuses.list": no_refusal("torch.from_numpy"),
        "refuses.dlpack": no_refusal("torch.from_dlpack"),
        "refuses.np_from_dlpack": no_refusal("np.from_dlpack", array_of),
        "way_out.detach": [("detach copies", "torch.Tensor.detach", result(copied))],
        "way_out.force": [
            ("numpy() ignores force", "torch.Tensor.numpy", _without("force")),
            ("numpy() loses the values", "torch.Tensor.numpy", result(other_values)),
        ],
        "way_out.bfloat16": [
            ("float() gives float64", "torch.Tensor.float", result(_double)),
            ("float() loses the values", "torch.Tensor.float", result(other_values)),
        ],
        "way_out.copy": [("from_numpy turns it round", "torch.from_numpy", result(lambda tensor: tensor.flip(0)))],
        "way_out.byte_order": [("from_numpy swaps the bytes", "torch.from_numpy", _swapped)],
    }


PYTHON = {
    "arange_int": "torch.arange",
    "arange_float": "torch.arange",
    "as_tensor_ints": "torch.as_tensor",
    "full_int": "torch.full",
    "argmax": "torch.Tensor.argmax",
    "int_sum": "torch.Tensor.sum",
}


def _inference() -> dict[str, list[Sabotage]]:
    def wrong(*targets: str) -> list[Sabotage]:
        return [(f"{target} with another dtype", target, result(other_dtype)) for target in targets]

    other: Sabotage = ("the other generation of NumPy", "np.__version__", _other_generation)
    found = {
        "infer.python": wrong("torch.tensor"),
        "infer.default_dtype": [
            ("set_default_dtype does nothing", "torch.set_default_dtype", instead(lambda _: None)),
            *wrong("torch.tensor"),
        ],
        "infer.numpy_ints": wrong("torch.from_numpy", "torch.tensor"),
        "infer.numpy_floats": wrong("torch.as_tensor", "torch.tensor"),
        "infer.c_types": [*wrong("torch.from_numpy"), *no_swap("torch.from_numpy")],
        "scalar.tensor": [*wrong("torch.tensor", "torch.as_tensor")],
        "scalar.item": [
            ("item() gives text", "torch.Tensor.item", result(str)),
            ("item() gives a NumPy scalar", "torch.Tensor.item", result(lambda value: _np().asarray(value)[()])),
        ],
        "scalar.lists": wrong("torch.tensor"),
        "scalar.arithmetic": wrong("torch.Tensor.__mul__", "torch.Tensor.__rmul__", "torch.Tensor.__add__"),
        "scalar.index": [
            (
                "indexing answers with the first",
                "torch.Tensor.__getitem__",
                result(lambda tensor: tensor.flatten()[:1]),
            ),
            ("assignment does nothing", "torch.Tensor.__setitem__", instead(lambda *_: None)),
            ("zeros takes no NumPy sizes", "torch.zeros", result(lambda tensor: tensor.t())),
            ("full rounds", "torch.full", result(lambda tensor: tensor.floor())),
        ],
        "nep50.python_float": [other, *wrong("torch.tensor")],
        "nep50.numpy_scalar": [other, *wrong("torch.from_numpy")],
        "nep50.overflow": [other],
        "nep50.tensor_keeps": wrong("torch.Tensor.__add__"),
        "nep50.tensor_range": [("tensor wraps round", "torch.tensor", accepts(lambda: _torch().zeros(1)))],
    }
    found.update({f"infer.python[{case}]": wrong(target) for case, target in PYTHON.items()})
    return found


def no_swap(target: str) -> list[Sabotage]:
    """Lose the sign of what a function returns."""
    return [(f"{target} loses the sign", target, result(lambda tensor: tensor.abs()))]


TABLE = {**_ways(), **_layouts(), **_single(), **_inference()}
ARRAYS = ("negative_strides", "byte_order", "byte_strides", "object", "string", "bytes", "datetime", "structured")
TENSORS = ("requires_grad", "bfloat16", "device", "conjugate", "negated", "sparse")
BACK = {"numpy": "torch.Tensor.numpy", "np_asarray": "torch.Tensor.__array__"}


def sabotages(identity: str) -> list[Sabotage]:
    """Return the sabotages of one check; the more precise entry of the table counts."""
    name = identity.removeprefix("conversion.")
    family, _, case = name.rstrip("]").partition("[")
    if name in TABLE or family in TABLE:
        return TABLE.get(name) or TABLE[family]
    kind = family.removeprefix("refuses.")
    if kind in {*ARRAYS, "longdouble"} and case:
        return no_refusal(f"torch.{case}")
    if kind in TENSORS and case:
        return no_refusal(BACK[case], array_of)
    if family == "read_only.warns":
        return [(f"{case} says nothing", f"torch.{case}", silenced)]
    return []
