"""Gradients of matmul and dot against their closed form, the graph as a drawing, and no_grad."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks.comparison import Data, alike
from checks.result import NotRun, expect, same
from checks.suite import Suite, refuses

if TYPE_CHECKING:
    from checks.suite import Lab

autograd = Suite("autograd")
no_grad = Suite("no_grad")


def _leaf(lab: Lab, array: Any) -> Any:
    return lab.torch.from_numpy(array.copy()).requires_grad_()


@autograd.check("matmul")
def matmul(lab: Lab) -> str:
    """Give dA = G B^T and dB = A^T G for sum(G * (A B))."""
    data = Data(lab.np)
    weights = data.square[:, :3]
    left, right = _leaf(lab, data.a), _leaf(lab, data.m)
    (lab.torch.from_numpy(weights.copy()) * (left @ right)).sum().backward()
    alike(lab, left.grad, weights @ data.m.T)
    alike(lab, right.grad, data.a.T @ weights)
    return "dA = G B^T, dB = A^T G"


@autograd.check("matmul_batch")
def matmul_batch(lab: Lab) -> str:
    """Sum the gradient of a matrix that was broadcast over a batch."""
    data = Data(lab.np)
    left, right = _leaf(lab, data.batch), _leaf(lab, data.m)
    (left @ right).sum().backward()
    ones = lab.np.ones((2, 4, 3))
    alike(lab, left.grad, ones @ data.m.T)
    alike(lab, right.grad, (data.batch.swapaxes(1, 2) @ ones).sum(0))
    return "summed over the batch"


@autograd.check("dot")
def dot(lab: Lab) -> str:
    """Give d(v.w)/dv = w and d(v.w)/dw = v."""
    data = Data(lab.np)
    left, right = _leaf(lab, data.v), _leaf(lab, data.w)
    lab.torch.dot(left, right).backward()
    alike(lab, left.grad, data.w)
    alike(lab, right.grad, data.v)
    return "dv = w, dw = v"


@autograd.check("complex")
def complex_dot(lab: Lab) -> str:
    """Give the conjugate Wirtinger gradient: d|z|^2 = 2 z."""
    data = Data(lab.np)
    leaf = _leaf(lab, data.z)
    (leaf * leaf.conj()).real.sum().backward()
    return alike(lab, leaf.grad, 2 * data.z)


@autograd.check("second_order")
def second_order(lab: Lab) -> str:
    """Differentiate twice: the second derivative of sum(v^3) is 6 v."""
    data = Data(lab.np)
    leaf = _leaf(lab, data.v)
    (first,) = lab.torch.autograd.grad((leaf**3).sum(), leaf, create_graph=True)
    alike(lab, first.detach(), 3 * data.v**2)
    (second,) = lab.torch.autograd.grad(first.sum(), leaf)
    return alike(lab, second, 6 * data.v)


@autograd.check("accumulates")
def accumulates(lab: Lab) -> str:
    """Add to a gradient that is already there."""
    leaf = _leaf(lab, lab.np.array([1.0, 2.0]))
    for _ in range(2):
        (leaf**2).sum().backward()
    return alike(lab, leaf.grad, lab.np.array([4.0, 8.0]))


@autograd.check("gradcheck")
def gradcheck(lab: Lab) -> str:
    """Agree with finite differences through a product, a nonlinearity and a solve."""
    data = Data(lab.np)
    torch = lab.torch

    def function(matrix: Any, vector: Any) -> Any:
        return torch.linalg.solve(matrix, torch.tanh(matrix @ vector)).sum()

    inputs = (_leaf(lab, data.square), _leaf(lab, data.a[:, 0]))
    expect(torch.autograd.gradcheck(function, inputs), "gradcheck says no")
    return "finite differences"


@autograd.check("through_numpy_refused")
def through_numpy(lab: Lab) -> str:
    """Refuse to let a gradient vanish through NumPy."""
    leaf = _leaf(lab, lab.np.ones(2))
    return refuses(lambda: lab.np.sin(leaf * 2), RuntimeError, "requires grad")


@autograd.check("graph")
def graph(lab: Lab) -> str:
    """Draw the graph of a product with torchviz and Graphviz, where both are installed."""
    missing = []
    if importlib.util.find_spec("torchviz") is None:
        missing.append("the package torchviz")
    if shutil.which("dot") is None:
        missing.append("Graphviz's program dot")
    if missing:
        raise NotRun(f"{' and '.join(missing)} not installed")
    torchviz = importlib.import_module("torchviz")
    data = Data(lab.np)
    left, right = _leaf(lab, data.a), _leaf(lab, data.m)
    drawing = torchviz.make_dot((left @ right).sum(), params={"left": left, "right": right})
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(drawing.render(str(Path(folder) / "graph"), format="svg", quiet=True)).read_text("utf-8")
    for word in ("<svg", "MmBackward0", "SumBackward0", "left", "right"):
        expect(word in picture, f"the drawing lacks {word!r}")
    nodes = picture.count('class="node"')
    return f"SVG of {len(picture)} characters, {nodes} nodes"


@no_grad.check("block")
def block(lab: Lab) -> str:
    """Record nothing inside the block, and everything after it."""
    torch = lab.torch
    leaf = _leaf(lab, lab.np.ones(2))
    with torch.no_grad():
        inside = leaf * 2
        expect(not torch.is_grad_enabled(), "grad mode is on inside no_grad")
    expect(not inside.requires_grad and inside.grad_fn is None, "a product inside no_grad requires grad")
    expect((leaf * 2).requires_grad, "a product after no_grad does not require grad")
    return "off inside, on after"


@no_grad.check("numpy")
def numpy_inside(lab: Lab) -> str:
    """Convert a result of the block without detach."""
    leaf = _leaf(lab, lab.np.ones(2))
    with lab.torch.no_grad():
        array = (leaf * 3).numpy()
    same(array.tolist(), [3.0, 3.0], "the product as an array")
    return "without detach"


@no_grad.check("leaf")
def leaf_inside(lab: Lab) -> str:
    """Share the memory of a leaf inside the block, where nothing is recorded; refuse it outside."""
    leaf = _leaf(lab, lab.np.ones(2))
    with lab.torch.no_grad():
        array = leaf.numpy()
    array[0] = 5
    same(leaf.tolist(), [5.0, 1.0], "the leaf after a write to its array")
    return "outside: " + refuses(leaf.numpy, RuntimeError, "requires grad")


@no_grad.check("in_place")
def in_place(lab: Lab) -> str:
    """Change a leaf in place inside the block; refuse it outside."""
    leaf = _leaf(lab, lab.np.ones(2))
    with lab.torch.no_grad():
        leaf.sub_(0.5)
    same(leaf.tolist(), [0.5, 0.5], "the leaf after a step")
    return refuses(lambda: leaf.sub_(0.5), RuntimeError, "leaf")


@no_grad.check("decorator")
def decorator(lab: Lab) -> str:
    """Record nothing in a decorated function; enable_grad turns it on again inside."""
    torch = lab.torch
    leaf = _leaf(lab, lab.np.ones(2))

    @torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def quiet() -> tuple[Any, Any]:
        first = leaf * 2
        with torch.enable_grad():
            return first, leaf * 2

    first, second = quiet()
    same((first.requires_grad, second.requires_grad), (False, True), "requires_grad without and with enable_grad")
    return "enable_grad inside"


@no_grad.check("after_exception")
def after_exception(lab: Lab) -> str:
    """Turn recording on again when the block is left by an exception."""
    try:
        with lab.torch.no_grad():
            raise KeyError("on purpose")
    except KeyError:
        pass
    expect(lab.torch.is_grad_enabled(), "grad mode stays off after an exception inside no_grad")
    return "on again"


@no_grad.check("inference_mode")
def inference_mode(lab: Lab) -> str:
    """Give tensors that can be converted and never take part in a graph."""
    leaf = _leaf(lab, lab.np.ones(2))
    with lab.torch.inference_mode():
        answer = leaf * 2
    same(answer.numpy().tolist(), [2.0, 2.0], "the product as an array")
    return refuses(lambda: (answer * leaf).sum().backward(), RuntimeError, "Inference tensors")
