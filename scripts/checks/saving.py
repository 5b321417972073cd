"""Saving and loading: np.save and its like, torch.save with weights_only."""

from __future__ import annotations

import io
import pickle
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks.dtypes import DTYPES, same_values, sample, sample_tensor
from checks.result import Failed, expect, same
from checks.suite import Suite, refuses

if TYPE_CHECKING:
    from checks.suite import Lab

suite = Suite("saving")


@suite.check("np_save", over=DTYPES)
def np_save(lab: Lab, dtype: str) -> str:
    """Write a tensor with np.save and read it back into a tensor."""
    tensor = sample_tensor(lab, dtype)
    buffer = io.BytesIO()
    lab.np.save(buffer, tensor.numpy())
    buffer.seek(0)
    array = lab.np.load(buffer, allow_pickle=False)
    same_values(array, tensor)
    same_values(array, lab.torch.from_numpy(array))
    return f"{buffer.tell()} bytes"


@suite.check("np_savez")
def np_savez(lab: Lab) -> str:
    """Write several tensors into one archive, and read them by name."""
    tensors = {name: sample_tensor(lab, name) for name in ("float32", "int64", "complex128")}
    buffer = io.BytesIO()
    lab.np.savez_compressed(buffer, **{name: tensor.numpy() for name, tensor in tensors.items()})
    buffer.seek(0)
    with lab.np.load(buffer, allow_pickle=False) as archive:
        same(sorted(archive.files), sorted(tensors), "the names")
        for name, tensor in tensors.items():
            same_values(archive[name], tensor)
    return ", ".join(tensors)


@suite.check("np_memmap")
def np_memmap(lab: Lab) -> str:
    """Write to a mapped file through a tensor."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "array.npy"
        lab.np.save(path, sample(lab, "float32"))
        mapped = lab.np.load(path, mmap_mode="r+")
        tensor = lab.torch.from_numpy(mapped)
        tensor[0, 0] = 42
        mapped.flush()
        del tensor, mapped
        same(lab.np.load(path)[0, 0].item(), 42.0, "the file after a write to the tensor")
    return "written through"


def _round_trip(lab: Lab, value: Any) -> Any:
    buffer = io.BytesIO()
    lab.torch.save(value, buffer)
    buffer.seek(0)
    return lab.torch.load(buffer, weights_only=True)


@suite.check("torch_save", over=(*DTYPES, "bfloat16"))
def torch_save(lab: Lab, dtype: str) -> str:
    """Write a tensor with torch.save and read it with weights_only."""
    tensor = sample_tensor(lab, "float32").bfloat16() if dtype == "bfloat16" else sample_tensor(lab, dtype)
    back = _round_trip(lab, tensor)
    same((back.dtype, tuple(back.shape), back.tolist()), (tensor.dtype, (2, 3), tensor.tolist()), "what came back")
    expect(back.data_ptr() != tensor.data_ptr(), "what came back is the tensor that was saved")
    return dtype


@suite.check("torch_save.layout")
def layout(lab: Lab) -> str:
    """Keep strides, and that two views share one storage."""
    whole = sample_tensor(lab, "float32", (4, 6))
    back, view = _round_trip(lab, [whole, whole[::2, 1::3].t()])
    same(tuple(view.stride()), (3, 12), "the view's stride")
    back[0, 1] = 77
    same(view[0, 0].item(), 77.0, "the view after a write to the whole")
    return "strides and sharing kept"


@suite.check("torch_save.state_dict")
def state_dict(lab: Lab) -> str:
    """Give a module its weights back."""
    torch = lab.torch
    torch.manual_seed(0)
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    back = _round_trip(lab, first.state_dict())
    same(list(back), ["weight", "bias"], "the names")
    expect(not torch.equal(first.weight, second.weight), "two fresh modules have the same weights")
    second.load_state_dict(back)
    data = torch.ones(1, 3)
    same(second(data).tolist(), first(data).tolist(), "the second module's output")
    return "weight, bias"


@suite.check("torch_save.requires_grad")
def requires_grad(lab: Lab) -> str:
    """Keep requires_grad."""
    back = _round_trip(lab, lab.torch.ones(2, requires_grad=True))
    expect(back.requires_grad, "requires_grad was lost")
    return "kept"


@suite.check("torch_save.mmap")
def mapped(lab: Lab) -> str:
    """Map a file instead of reading it."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "tensor.pt")
        tensor = sample_tensor(lab, "int32", (32, 32))
        lab.torch.save(tensor, path)
        back = lab.torch.load(path, weights_only=True, mmap=True)
        same(back.tolist(), tensor.tolist(), "the values")
        del back
    return "mmap=True"


class Payload:
    """An object that would call a function when unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Name the function and its argument."""
        return (_called, ("unpickled",))


def _called(text: str) -> None:
    raise Failed(f"weights_only let a pickle call a function: {text}")


@suite.check("weights_only_refuses")
def weights_only(lab: Lab) -> str:
    """Refuse a file that would call a function."""
    buffer = io.BytesIO()
    lab.torch.save({"weights": lab.torch.ones(2), "payload": Payload()}, buffer)
    buffer.seek(0)
    return refuses(
        lambda: lab.torch.load(buffer, weights_only=True),
        (pickle.UnpicklingError, RuntimeError),
        "nsupported",
        "eights",
    )
