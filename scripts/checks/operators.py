"""Operators with NumPy's names, torch against NumPy: creation, shape, arithmetic, stacking, indexing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.comparison import add_pairs
from checks.suite import Suite

if TYPE_CHECKING:
    from checks.comparison import Pair

suite = Suite("operators")


CREATION: dict[str, Pair] = {
    "zeros": (lambda t, _: t.zeros(2, 3, dtype=t.float64), lambda np, _: np.zeros((2, 3))),
    "ones": (lambda t, _: t.ones(2, 3, dtype=t.int32), lambda np, _: np.ones((2, 3), dtype="int32")),
    "full": (lambda t, _: t.full((2, 3), 2.5, dtype=t.float64), lambda np, _: np.full((2, 3), 2.5)),
    "full_like": (lambda t, d: t.full_like(d.i, 7), lambda np, d: np.full_like(d.i, 7)),
    "eye": (lambda t, _: t.eye(3, 4, dtype=t.float64), lambda np, _: np.eye(3, 4)),
    "arange": (lambda t, _: t.arange(2, 20, 3), lambda np, _: np.arange(2, 20, 3, dtype="int64")),
    "arange_float": (lambda t, _: t.arange(0, 1, 0.125, dtype=t.float64), lambda np, _: np.arange(0, 1, 0.125)),
    "linspace": (lambda t, _: t.linspace(-1, 2, 7, dtype=t.float64), lambda np, _: np.linspace(-1, 2, 7)),
    "logspace": (lambda t, _: t.logspace(0, 3, 4, dtype=t.float64), lambda np, _: np.logspace(0, 3, 4)),
    "diag": (lambda t, d: t.diag(d.v, 1), lambda np, d: np.diag(d.v, 1)),
    "tril": (lambda t, d: t.tril(d.a, -1), lambda np, d: np.tril(d.a, -1)),
    "triu": (lambda t, d: t.triu(d.a), lambda np, d: np.triu(d.a)),
    "vander": (lambda t, d: t.vander(d.v, N=4), lambda np, d: np.vander(d.v, N=4)),
    "meshgrid": (lambda t, d: t.meshgrid(d.v, d.w, indexing="ij"), lambda np, d: np.meshgrid(d.v, d.w, indexing="ij")),
}
SHAPE: dict[str, Pair] = {
    "reshape": (lambda t, d: t.reshape(d.a, (2, -1)), lambda np, d: np.reshape(d.a, (2, -1))),
    "transpose": (lambda t, d: t.permute(d.batch, (2, 0, 1)), lambda np, d: np.transpose(d.batch, (2, 0, 1))),
    "swapaxes": (lambda t, d: t.swapaxes(d.batch, 0, 2), lambda np, d: np.swapaxes(d.batch, 0, 2)),
    "moveaxis": (lambda t, d: t.moveaxis(d.batch, 0, -1), lambda np, d: np.moveaxis(d.batch, 0, -1)),
    "squeeze": (lambda t, d: t.squeeze(d.a[None]), lambda np, d: np.squeeze(d.a[None])),
    "ravel": (lambda t, d: t.ravel(d.a.T), lambda np, d: np.ravel(d.a.T)),
    "broadcast_to": (lambda t, d: t.broadcast_to(d.v, (3, 7)), lambda np, d: np.broadcast_to(d.v, (3, 7))),
    "flip": (lambda t, d: t.flip(d.a, (0,)), lambda np, d: np.flip(d.a, 0)),
    "fliplr": (lambda t, d: t.fliplr(d.a), lambda np, d: np.fliplr(d.a)),
    "roll": (lambda t, d: t.roll(d.a, 2, 1), lambda np, d: np.roll(d.a, 2, 1)),
    "rot90": (lambda t, d: t.rot90(d.a), lambda np, d: np.rot90(d.a)),
    "tile": (lambda t, d: t.tile(d.a, (2, 1)), lambda np, d: np.tile(d.a, (2, 1))),
    "repeat": (lambda t, d: t.repeat_interleave(d.a, 2, 1), lambda np, d: np.repeat(d.a, 2, 1)),
    "split": (lambda t, d: t.tensor_split(d.a, 3, 1), lambda np, d: np.array_split(d.a, 3, 1)),
    "atleast_2d": (lambda t, d: t.atleast_2d(d.v), lambda np, d: np.atleast_2d(d.v)),
}
STACKING: dict[str, Pair] = {
    "hstack": (lambda t, d: t.hstack((d.a, d.b)), lambda np, d: np.hstack((d.a, d.b))),
    "vstack": (lambda t, d: t.vstack((d.v, d.w)), lambda np, d: np.vstack((d.v, d.w))),
    "dstack": (lambda t, d: t.dstack((d.a, d.b)), lambda np, d: np.dstack((d.a, d.b))),
    "stack": (lambda t, d: t.stack((d.a, d.b), 1), lambda np, d: np.stack((d.a, d.b), 1)),
    "column_stack": (lambda t, d: t.column_stack((d.v, d.w)), lambda np, d: np.column_stack((d.v, d.w))),
    "concatenate": (lambda t, d: t.concatenate((d.a, d.b), 1), lambda np, d: np.concatenate((d.a, d.b), 1)),
    "hsplit": (lambda t, d: t.hsplit(d.square, 2), lambda np, d: np.hsplit(d.square, 2)),
    "vsplit": (lambda t, d: t.vsplit(d.a, 2), lambda np, d: np.vsplit(d.a, 2)),
    "dsplit": (lambda t, d: t.dsplit(d.batch, (2,)), lambda np, d: np.dsplit(d.batch, (2,))),
}
ARITHMETIC: dict[str, Pair] = {
    "add": (lambda _, d: d.a + d.b, lambda _, d: d.a + d.b),
    "subtract": (lambda _, d: d.i - d.j, lambda _, d: d.i - d.j),
    "multiply": (lambda _, d: d.a * d.z, lambda _, d: d.a * d.z),
    "divide": (lambda _, d: d.a / d.b, lambda _, d: d.a / d.b),
    "true_divide": (lambda t, d: t.true_divide(d.i.double(), d.j), lambda np, d: np.true_divide(d.i, d.j)),
    # Two integers divide to a float: torch's default one, so the same numbers in float32.
    "true_divide_ints": (lambda _, d: d.i / d.j, lambda np, d: np.true_divide(d.i, d.j).astype("float32")),
    "floor_divide": (lambda _, d: d.i // d.j, lambda _, d: d.i // d.j),
    "remainder": (lambda t, d: t.remainder(d.i, d.j), lambda np, d: np.remainder(d.i, d.j)),
    "fmod": (lambda t, d: t.fmod(d.i, d.j), lambda np, d: np.fmod(d.i, d.j)),
    "power": (lambda _, d: d.positive**d.b, lambda _, d: d.positive**d.b),
    "negative": (lambda _, d: -d.z, lambda _, d: -d.z),
    "absolute": (lambda t, d: t.absolute(d.z), lambda np, d: np.absolute(d.z)),
    "sign": (lambda t, d: t.sign(d.a), lambda np, d: np.sign(d.a)),
    "round": (lambda t, d: t.round(d.i / 2.0), lambda np, d: np.round((d.i / 2.0).astype("float32"))),
    "floor": (lambda t, d: t.floor(d.a), lambda np, d: np.floor(d.a)),
    "trunc": (lambda t, d: t.trunc(d.a), lambda np, d: np.trunc(d.a)),
    "clip": (lambda t, d: t.clip(d.a, -0.5, 0.5), lambda np, d: np.clip(d.a, -0.5, 0.5)),
    "maximum": (lambda t, d: t.maximum(d.a, d.b), lambda np, d: np.maximum(d.a, d.b)),
    "fmin": (lambda t, d: t.fmin(d.a, d.b), lambda np, d: np.fmin(d.a, d.b)),
    "compare": (lambda _, d: (d.a > d.b) & (d.i != d.j), lambda _, d: (d.a > d.b) & (d.i != d.j)),
    "logical_xor": (lambda t, d: t.logical_xor(d.a > 0, d.b > 0), lambda np, d: np.logical_xor(d.a > 0, d.b > 0)),
    "bitwise": (lambda _, d: (d.i & d.j) ^ (~d.i | 3), lambda _, d: (d.i & d.j) ^ (~d.i | 3)),
    "shift": (lambda _, d: (d.j << 3) >> 1, lambda _, d: (d.j << 3) >> 1),
    "gcd": (lambda t, d: t.gcd(d.i, d.j), lambda np, d: np.gcd(d.i, d.j)),
    "lcm": (lambda t, d: t.lcm(d.i, d.j), lambda np, d: np.lcm(d.i, d.j)),
    "broadcast": (lambda _, d: d.batch + d.a[:, :1], lambda _, d: d.batch + d.a[:, :1]),
    "uint8_wraps": (lambda t, d: d.j.to(t.uint8) - 9, lambda np, d: d.j.astype("uint8") - np.uint8(9)),
    "int_and_float": (lambda _, d: d.i + d.f4.double(), lambda _, d: d.i + d.f4.astype("float64")),
}
FUNCTIONS: dict[str, Pair] = {
    "exp": (lambda t, d: t.exp(d.a), lambda np, d: np.exp(d.a)),
    "expm1": (lambda t, d: t.expm1(d.a), lambda np, d: np.expm1(d.a)),
    "exp2": (lambda t, d: t.exp2(d.a), lambda np, d: np.exp2(d.a)),
    "log": (lambda t, d: t.log(d.positive), lambda np, d: np.log(d.positive)),
    "log1p": (lambda t, d: t.log1p(d.positive), lambda np, d: np.log1p(d.positive)),
    "logaddexp": (lambda t, d: t.logaddexp(d.a, d.b), lambda np, d: np.logaddexp(d.a, d.b)),
    "sqrt": (lambda t, d: t.sqrt(d.positive), lambda np, d: np.sqrt(d.positive)),
    "sin": (lambda t, d: t.sin(d.z), lambda np, d: np.sin(d.z)),
    "arctan2": (lambda t, d: t.arctan2(d.a, d.b), lambda np, d: np.arctan2(d.a, d.b)),
    "tanh": (lambda t, d: t.tanh(d.f4), lambda np, d: np.tanh(d.f4)),
    "arcsinh": (lambda t, d: t.arcsinh(d.a), lambda np, d: np.arcsinh(d.a)),
    "i0": (lambda t, d: t.i0(d.a), lambda np, d: np.i0(d.a)),
    "sinc": (lambda t, d: t.sinc(d.a), lambda np, d: np.sinc(d.a)),
    "hypot": (lambda t, d: t.hypot(d.a, d.b), lambda np, d: np.hypot(d.a, d.b)),
    "copysign": (lambda t, d: t.copysign(d.a, d.b), lambda np, d: np.copysign(d.a, d.b)),
    "nextafter": (lambda t, d: t.nextafter(d.a, d.b), lambda np, d: np.nextafter(d.a, d.b)),
    "heaviside": (lambda t, d: t.heaviside(d.a, d.b), lambda np, d: np.heaviside(d.a, d.b)),
    "ldexp": (lambda t, d: t.ldexp(d.a, d.j), lambda np, d: np.ldexp(d.a, d.j)),
    "angle": (lambda t, d: t.angle(d.z), lambda np, d: np.angle(d.z)),
    "deg2rad": (lambda t, d: t.deg2rad(d.a), lambda np, d: np.deg2rad(d.a)),
    "nan_to_num": (lambda t, d: t.nan_to_num(d.a / 0.0 * 0.0), lambda np, d: np.zeros(d.a.shape)),
}
INDEXING: dict[str, Pair] = {
    "slice": (lambda _, d: d.batch[1, ::2, -3:], lambda _, d: d.batch[1, ::2, -3:]),
    "ellipsis": (lambda _, d: d.batch[..., None, 2], lambda _, d: d.batch[..., None, 2]),
    "fancy": (lambda _, d: d.a[[2, 0], [1, 4]], lambda _, d: d.a[[2, 0], [1, 4]]),
    "mask": (lambda _, d: d.a[d.a > 0], lambda _, d: d.a[d.a > 0]),
    "where": (lambda t, d: t.where(d.a > 0, d.a, d.b), lambda np, d: np.where(d.a > 0, d.a, d.b)),
    "nonzero": (lambda t, d: t.argwhere(d.a > 0), lambda np, d: np.argwhere(d.a > 0).astype("int64")),
    "take": (lambda t, d: t.take(d.a, t.tensor([0, 7])), lambda np, d: np.take(d.a, [0, 7])),
    "take_along": (
        lambda t, d: t.take_along_dim(d.a, t.argsort(d.a, 1), 1),
        lambda np, d: np.take_along_axis(d.a, np.argsort(d.a, 1), 1),
    ),
    "sort": (lambda t, d: t.sort(d.a, 1).values, lambda np, d: np.sort(d.a, 1)),
    "argsort": (lambda t, d: t.argsort(d.v), lambda np, d: np.argsort(d.v).astype("int64")),
    "unique": (lambda t, d: t.unique(d.i), lambda np, d: np.unique(d.i)),
    "isin": (lambda t, d: t.isin(d.i, d.j), lambda np, d: np.isin(d.i, d.j)),
    "searchsorted": (
        lambda t, d: t.searchsorted(t.sort(d.v).values, d.w),
        lambda np, d: np.searchsorted(np.sort(d.v), d.w).astype("int64"),
    ),
}

for _family, _pairs in {
    "creation": CREATION,
    "shape": SHAPE,
    "stacking": STACKING,
    "arithmetic": ARITHMETIC,
    "functions": FUNCTIONS,
    "indexing": INDEXING,
}.items():
    add_pairs(suite, _family, _pairs)
