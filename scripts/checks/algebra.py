"""Operators with NumPy's names, torch against NumPy: products, statistics, quantiles, FFT, linear algebra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checks.comparison import Data, add_pairs, alike, close
from checks.suite import Suite, refuses

if TYPE_CHECKING:
    from checks.comparison import Pair
    from checks.suite import Lab

suite = Suite("operators")

PRODUCTS: dict[str, Pair] = {
    "float64": (lambda _, d: d.a @ d.m, lambda _, d: d.a @ d.m),
    "float32": (lambda _, d: d.f4 @ d.g4, lambda _, d: d.f4 @ d.g4),
    "complex128": (lambda t, d: d.z @ d.m.to(t.complex128), lambda _, d: d.z @ d.m),
    "int64": (lambda _, d: d.i @ d.j.T, lambda _, d: d.i @ d.j.T),
    "batch": (lambda _, d: d.batch @ d.batch_m, lambda _, d: d.batch @ d.batch_m),
    "broadcast": (lambda _, d: d.batch @ d.m, lambda _, d: d.batch @ d.m),
    "vector": (lambda _, d: d.a @ d.m[:, 0], lambda _, d: d.a @ d.m[:, 0]),
    "transposed": (lambda _, d: d.a.T @ d.b, lambda _, d: d.a.T @ d.b),
    "dot": (lambda t, d: t.dot(d.v, d.w), lambda np, d: np.dot(d.v, d.w)),
    "vdot": (lambda t, d: t.vdot(d.z[0], d.z[1]), lambda np, d: np.vdot(d.z[0], d.z[1])),
    "inner": (lambda t, d: t.inner(d.a, d.b), lambda np, d: np.inner(d.a, d.b)),
    "outer": (lambda t, d: t.outer(d.v, d.w), lambda np, d: np.outer(d.v, d.w)),
    "kron": (lambda t, d: t.kron(d.a, d.m), lambda np, d: np.kron(d.a, d.m)),
    "tensordot": (lambda t, d: t.tensordot(d.batch, d.a, 2), lambda np, d: np.tensordot(d.batch, d.a, 2)),
    "einsum": (
        lambda t, d: t.einsum("bij,bjk->ik", d.batch, d.batch_m),
        lambda np, d: np.einsum("bij,bjk->ik", d.batch, d.batch_m),
    ),
    "cross": (
        lambda t, d: t.linalg.cross(d.a[:, :3], d.b[:, :3]),
        lambda np, d: np.cross(d.a[:, :3], d.b[:, :3]),
    ),
}


def _trapezoid(np: Any, array: Any) -> Any:
    """Integrate with NumPy 2's name, or with that of NumPy 1."""
    return np.trapezoid(array) if hasattr(np, "trapezoid") else np.trapz(array)


STATISTICS: dict[str, Pair] = {
    "sum": (lambda t, d: t.sum(d.a, 0), lambda np, d: np.sum(d.a, 0)),
    "prod": (lambda t, d: t.prod(d.a, 1), lambda np, d: np.prod(d.a, 1)),
    "mean": (lambda t, d: t.mean(d.a, 1, keepdim=True), lambda np, d: np.mean(d.a, 1, keepdims=True)),
    "std_population": (lambda t, d: t.std(d.a, 0, correction=0), lambda np, d: np.std(d.a, 0)),
    "std_sample": (lambda t, d: t.std(d.a, 0), lambda np, d: np.std(d.a, 0, ddof=1)),
    "var": (lambda t, d: t.var(d.z, correction=0), lambda np, d: np.var(d.z)),
    "median_odd": (lambda t, d: t.median(d.v), lambda np, d: np.median(d.v)),
    "nanmean": (lambda t, d: t.nanmean(d.a.sqrt()), lambda np, d: np.nanmean(np.where(d.a < 0, np.nan, d.a) ** 0.5)),
    "nansum": (lambda t, d: t.nansum(d.a.log()), lambda np, d: np.nansum(np.log(np.where(d.a < 0, np.nan, d.a)))),
    "amin": (lambda t, d: t.amin(d.a, (0, 1)), lambda np, d: np.amin(d.a, (0, 1))),
    "amax": (lambda t, d: t.amax(d.batch, (0, 2)), lambda np, d: np.amax(d.batch, (0, 2))),
    "argmin": (lambda t, d: t.argmin(d.a, 1), lambda np, d: np.argmin(d.a, 1).astype("int64")),
    "argmax": (lambda t, d: t.argmax(d.a), lambda np, d: np.int64(np.argmax(d.a))),
    "cumsum": (lambda t, d: t.cumsum(d.a, 1), lambda np, d: np.cumsum(d.a, 1)),
    "cumprod": (lambda t, d: t.cumprod(d.a, 0), lambda np, d: np.cumprod(d.a, 0)),
    "diff": (lambda t, d: t.diff(d.a, n=2), lambda np, d: np.diff(d.a, n=2)),
    "gradient": (lambda t, d: t.gradient(d.v)[0], lambda np, d: np.gradient(d.v)),
    "trapezoid": (lambda t, d: t.trapezoid(d.v), lambda np, d: _trapezoid(np, d.v)),
    "cov": (lambda t, d: t.cov(d.a), lambda np, d: np.cov(d.a)),
    "corrcoef": (lambda t, d: t.corrcoef(d.a), lambda np, d: np.corrcoef(d.a)),
    "bincount": (lambda t, d: t.bincount(d.j.ravel()), lambda np, d: np.bincount(d.j.ravel()).astype("int64")),
    "histogram": (
        lambda t, d: t.histogram(d.a, 5, range=(-2.0, 2.0)).hist,
        lambda np, d: np.histogram(d.a, 5, range=(-2.0, 2.0))[0].astype("float64"),
    ),
    "count_nonzero": (lambda t, d: t.count_nonzero(d.i), lambda np, d: np.int64(np.count_nonzero(d.i))),
    "any_all": (lambda t, d: (t.any(d.a > 2), t.all(d.a < 9)), lambda np, d: (np.any(d.a > 2), np.all(d.a < 9))),
}
INTERPOLATIONS = ("linear", "lower", "higher", "nearest", "midpoint")
FFT: dict[str, Pair] = {
    "fft": (lambda t, d: t.fft.fft(d.z), lambda np, d: np.fft.fft(d.z)),
    "ifft": (lambda t, d: t.fft.ifft(d.z, dim=0), lambda np, d: np.fft.ifft(d.z, axis=0)),
    "rfft": (lambda t, d: t.fft.rfft(d.v), lambda np, d: np.fft.rfft(d.v)),
    "irfft": (lambda t, d: t.fft.irfft(t.fft.rfft(d.v), n=7), lambda np, d: np.fft.irfft(np.fft.rfft(d.v), n=7)),
    "hfft": (lambda t, d: t.fft.hfft(d.z[0]), lambda np, d: np.fft.hfft(d.z[0])),
    "fft2": (lambda t, d: t.fft.fft2(d.a), lambda np, d: np.fft.fft2(d.a)),
    "fftn": (lambda t, d: t.fft.fftn(d.batch, norm="ortho"), lambda np, d: np.fft.fftn(d.batch, norm="ortho")),
    "fftshift": (lambda t, d: t.fft.fftshift(d.v), lambda np, d: np.fft.fftshift(d.v)),
    "fftfreq": (lambda t, _: t.fft.fftfreq(8, 0.5, dtype=t.float64), lambda np, _: np.fft.fftfreq(8, 0.5)),
}
LINALG: dict[str, Pair] = {
    "det": (lambda t, d: t.linalg.det(d.square), lambda np, d: np.linalg.det(d.square)),
    "slogdet": (lambda t, d: tuple(t.linalg.slogdet(d.square)), lambda np, d: tuple(np.linalg.slogdet(d.square))),
    "inv": (lambda t, d: t.linalg.inv(d.square), lambda np, d: np.linalg.inv(d.square)),
    "pinv": (lambda t, d: t.linalg.pinv(d.a), lambda np, d: np.linalg.pinv(d.a)),
    "solve": (lambda t, d: t.linalg.solve(d.square, d.a), lambda np, d: np.linalg.solve(d.square, d.a)),
    "lstsq": (
        lambda t, d: t.linalg.lstsq(d.m, d.a.T).solution,
        lambda np, d: np.linalg.lstsq(d.m, d.a.T, rcond=None)[0],
    ),
    "cholesky": (lambda t, d: t.linalg.cholesky(d.spd), lambda np, d: np.linalg.cholesky(d.spd)),
    "eigvalsh": (lambda t, d: t.linalg.eigvalsh(d.spd), lambda np, d: np.linalg.eigvalsh(d.spd)),
    "svdvals": (lambda t, d: t.linalg.svdvals(d.a), lambda np, d: np.linalg.svd(d.a, compute_uv=False)),
    "norm": (lambda t, d: t.linalg.norm(d.a), lambda np, d: np.linalg.norm(d.a)),
    "norm_nuclear": (lambda t, d: t.linalg.norm(d.a, "nuc"), lambda np, d: np.linalg.norm(d.a, "nuc")),
    "cond": (lambda t, d: t.linalg.cond(d.square), lambda np, d: np.linalg.cond(d.square)),
    "matrix_power": (
        lambda t, d: t.linalg.matrix_power(d.square, 3),
        lambda np, d: np.linalg.matrix_power(d.square, 3),
    ),
    "matrix_rank": (lambda t, d: t.linalg.matrix_rank(d.a), lambda np, d: np.int64(np.linalg.matrix_rank(d.a))),
    "multi_dot": (
        lambda t, d: t.linalg.multi_dot((d.square, d.a, d.m)),
        lambda np, d: np.linalg.multi_dot((d.square, d.a, d.m)),
    ),
    "trace": (lambda t, d: t.trace(d.square), lambda np, d: np.trace(d.square)),
}

for _family, _pairs in {"matmul": PRODUCTS, "statistics": STATISTICS, "fft": FFT, "linalg": LINALG}.items():
    add_pairs(suite, _family, _pairs)


@suite.check("quantile", over=INTERPOLATIONS)
def quantile(lab: Lab, method: str) -> str:
    """Agree on quantiles with every interpolation that both have."""
    data = Data(lab.np)
    levels = lab.np.array([0.0, 0.1, 0.5, 0.77, 1.0])
    wanted = lab.np.quantile(data.a, levels, axis=1, method=method)
    tensors = data.tensors(lab.torch)
    return alike(lab, lab.torch.quantile(tensors.a, lab.torch.from_numpy(levels), dim=1, interpolation=method), wanted)


@suite.check("nanquantile")
def nanquantile(lab: Lab) -> str:
    """Agree on a quantile that passes over NaN."""
    data = Data(lab.np)
    data.a[0, 0] = data.a[2, 3] = lab.np.nan
    wanted = lab.np.nanquantile(data.a, 0.3, axis=1)
    return alike(lab, lab.torch.nanquantile(data.tensors(lab.torch).a, 0.3, dim=1), wanted)


@suite.check("linalg.factors", over=("qr", "svd", "eigh"))
def factors(lab: Lab, name: str) -> str:
    """Rebuild the matrix from factors whose signs are free."""
    data = Data(lab.np)
    tensors = data.tensors(lab.torch)
    linalg = lab.torch.linalg
    if name == "qr":
        q, r = linalg.qr(tensors.a)
        built, wanted = q @ r, data.a
    elif name == "svd":
        u, s, vh = linalg.svd(tensors.a, full_matrices=False)
        built, wanted = (u * s) @ vh, data.a
    else:
        values, vectors = linalg.eigh(tensors.spd)
        built, wanted = (vectors * values) @ vectors.T, data.spd
    close(lab, built.numpy(), wanted)
    return "rebuilt"


@suite.check("linalg.singular_refused")
def singular(lab: Lab) -> str:
    """Refuse the inverse of a singular matrix, as NumPy does."""
    matrix = lab.np.ones((3, 3))
    refuses(lambda: lab.np.linalg.inv(matrix), lab.np.linalg.LinAlgError, "ingular")
    return refuses(lambda: lab.torch.linalg.inv(lab.torch.from_numpy(matrix)), RuntimeError, "singular")
