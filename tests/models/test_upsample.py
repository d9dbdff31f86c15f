"""The transposed convolution against its literal meaning, its adjoint and PyTorch."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.paths import VECTORS

from unet_jax.errors import UserError
from unet_jax.models.up.geometry import Geometry
from unet_jax.models.up.transpose import transpose_conv, transpose_conv_reference

CONVS = VECTORS / "transposed_convs.npz"
SIZES = {1: (5,), 2: (3, 4), 3: (3, 2, 3)}  # input pixels


def sweep(f, s):
    """All geometries of a filter size and a stride with something left."""
    for d in (1, 2, 3):
        for p, extra in itertools.product(range(f), range(max(s, d))):
            if s * (5 - 1) + d * (f - 1) + 1 - 2 * p + extra >= 1:
                yield Geometry(f, s, p, extra, d)


def mixed(axes):
    """A thinned sweep over several axes, another geometry along each."""
    rng, found = np.random.default_rng(axes), []
    while len(found) < (60 if axes == 2 else 24):
        case = []
        for n in SIZES[axes]:
            f, s, d = rng.integers(1, 6), rng.integers(1, 5), rng.choice([1, 1, 1, 2, 3])
            case.append(Geometry(f, s, rng.integers(0, f), rng.integers(0, max(s, d)), d))
            if s * (n - 1) + d * (f - 1) + 1 - 2 * case[-1].padding + case[-1].output_padding < 1:
                break
        else:
            found.append(tuple(Geometry(*map(int, g)) for g in case))
    return found


def keywords(case):
    names = ("stride", "padding", "output_padding", "dilation")
    return {
        name: tuple(values)
        for name, values in zip(names, list(zip(*case, strict=True))[1:], strict=True)
    }


def values_and_gradients(cases, xs, filters, bias, weights):
    """Compiles all cases as one program."""

    def one(case, x, filter, bias, weight):
        y, pull = jax.vjp(
            lambda *a: transpose_conv(*a[:2], bias=a[2], **keywords(case)), x, filter, bias
        )
        return y, *pull(weight)

    def run(*arrays):
        return [
            one(case, x, f, arrays[2], w)
            for case, x, f, w in zip(cases, *arrays[:2], arrays[3], strict=True)
        ]

    return jax.jit(run)(xs, filters, bias, weights)


def adjoint(case, x, filter, weight):
    """The gradients of sum(y * weight): the convolution of the weight, and its products with x."""
    dx, dfilter = np.zeros_like(x), np.zeros_like(filter)
    for i in np.ndindex(x.shape[1:-1]):
        for k in np.ndindex(filter.shape[:-2]):
            out = tuple(
                a * g.stride + b * g.dilation - g.padding
                for a, b, g in zip(i, k, case, strict=True)
            )
            if all(0 <= o < n for o, n in zip(out, weight.shape[1:-1], strict=True)):
                w = weight[(slice(None), *out)]
                dx[(slice(None), *i)] += w @ filter[k].T
                dfilter[k] += x[(slice(None), *i)].T @ w
    return dx, dfilter


def check(cases, axes):
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape)  # noqa: E731
    sizes = [
        tuple(g.output_size(n) for g, n in zip(case, SIZES[axes], strict=True)) for case in cases
    ]
    xs = [normal(1 + i % 2, *SIZES[axes], 2) for i, _ in enumerate(cases)]
    filters = [normal(*(g.filter for g in case), 2, 3) for case in cases]
    weights = [normal(len(x), *size, 3) for x, size in zip(xs, sizes, strict=True)]
    bias = normal(3)
    singles = jax.tree.map(lambda a: a.astype(np.float32), (xs, filters, bias, weights))
    results = jax.device_get(values_and_gradients(cases, *singles))
    for case, x, filter, weight, (y, dx, dfilter, dbias) in zip(
        cases, xs, filters, weights, results, strict=True
    ):
        expected = transpose_conv_reference(x, filter, bias=bias, **keywords(case))
        assert y.shape == weight.shape  # the law
        close(y, expected, 1e-5, case)
        dx_expected, dfilter_expected = adjoint(case, x, filter, weight)
        close(dx, dx_expected, 1e-4, case)
        close(dfilter, dfilter_expected, 1e-4, case)
        close(dbias, weight.sum(tuple(range(axes + 1))), 1e-4, case)
        # <A x, w> = <x, A' w>
        np.testing.assert_allclose(np.sum((expected - bias) * weight), np.sum(x * dx_expected))


def close(found, expected, tolerance, case):
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale, err_msg=str(case))


@pytest.mark.parametrize(("f", "s"), list(itertools.product(range(1, 8), range(1, 5))))
def test_all_geometries_along_one_axis(f, s):
    check([(g,) for g in sweep(f, s)], 1)


@pytest.mark.parametrize("axes", [2, 3])
def test_geometries_along_several_axes(axes):
    check(mixed(axes), axes)


def test_pytorchs_values_and_gradients():
    with np.load(CONVS) as stored:
        names = sorted({name.split("/")[0] for name in stored.files})
        rows = [{k: stored[f"{n}/{k}"] for k in ("x", "filter", "bias", "weight")} for n in names]
        wanted = [[stored[f"{n}/{k}"] for k in ("y", "dx", "dfilter", "dbias")] for n in names]
        cases = [tuple(Geometry(*map(int, g)) for g in stored[f"{n}/settings"].T) for n in names]
    assert len(names) >= 54

    def run(rows):
        results = []
        for case, row in zip(cases, rows, strict=True):
            y, pull = jax.vjp(
                lambda x, f, b, case=case: transpose_conv(x, f, bias=b, **keywords(case)),
                row["x"],
                row["filter"],
                row["bias"],
            )
            results.append((y, *pull(row["weight"])))
        return results

    for case, found, expected in zip(cases, jax.jit(run)(rows), wanted, strict=True):
        for one, other, tolerance in zip(found, expected, (1e-5, 1e-4, 1e-4, 1e-4), strict=True):
            assert one.shape == other.shape
            close(one, other, tolerance, case)


def test_the_literal_form_by_hand():
    x, filter = np.array([1.0, 10.0]).reshape(1, 2, 1), np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)

    def place(**numbers):
        return transpose_conv_reference(x, filter, **numbers).ravel().tolist()

    assert place(stride=1) == [1, 12, 23, 30]
    assert place(stride=2) == [1, 2, 13, 20, 30]
    assert place(stride=2, padding=1) == [2, 13, 20]
    assert place(stride=2, padding=1, output_padding=1) == [2, 13, 20, 30]
    assert place(stride=3) == [1, 2, 3, 10, 20, 30]
    assert place(stride=1, dilation=2) == [1, 10, 2, 20, 3, 30]


def test_overlaps_count_the_products_of_every_output_pixel():
    for f, s in itertools.product(range(1, 8), range(1, 5)):
        for g in sweep(f, s):
            ones = np.ones((1, 5, 1)), np.ones((f, 1, 1))
            products = transpose_conv_reference(*ones, **keywords((g,))).ravel()
            np.testing.assert_array_equal(g.overlaps(5), products)


def test_checkerboard_is_where_inner_pixels_sum_unequally_many_products():
    for f, s, d in itertools.product(range(1, 8), range(1, 5), range(1, 4)):
        g = Geometry(f, s, 0, 0, d)
        counts = g.overlaps(40)
        inner = counts[d * f + s : -d * f - s]
        is_uneven = inner.min() != inner.max()
        warning = g.checkerboard()
        assert (warning is not None) == is_uneven, g
        if warning:
            why = f"filter size {f} is no multiple of stride {s}"
            if d > 1:
                why = f"the {f} taps of a filter with dilation {d} fall unevenly on stride {s}"
            assert why in warning
            assert f"sum {inner.min()} to {inner.max()} products" in warning


LAWS = {
    "no filter": (Geometry(0, 1), 3, "filter size f=0 must be 1 or more"),
    "no stride": (Geometry(2, 0), 3, "stride s=0 must be 1 or more"),
    "no dilation": (Geometry(2, 1, dilation=0), 3, "dilation d=0 must be 1 or more"),
    "padding": (Geometry(3, 2, 3), 3, "padding p=3 must be 0 or more and below the filter size"),
    "negative": (Geometry(3, 2, -1), 3, "padding p=-1 must be 0 or more"),
    "extra": (Geometry(3, 2, 0, 2), 3, "output padding 2 must be .* below .* stride s=2"),
    "nothing left": (Geometry(3, 1, 2), 2, r"= 1\*\(2 - 1\) \+ 1\*\(3 - 1\) \+ 1 - 2\*2 \+ 0 = 0"),
}


@pytest.mark.parametrize("law", LAWS)
def test_laws_that_are_broken_are_named(law):
    geometry, n, message = LAWS[law]
    with pytest.raises(UserError, match=message):
        geometry.output_size(n)
    if law not in {"no filter"}:
        x, filter = jnp.ones((1, n, 1)), jnp.ones((geometry.filter, 1, 1))
        for function in (transpose_conv, transpose_conv_reference):
            with pytest.raises(UserError, match=message):
                function(x, filter, **keywords((geometry,)))


@pytest.mark.parametrize(
    ("x", "filter", "stride", "message"),
    [
        ((1, 3, 3, 2), (2, 2, 3, 4), 2, "x has 2 channels and the filter takes 3"),
        ((1, 3, 3, 2), (2, 2, 4), 2, "x with 4 axes and a filter with 3 must be"),
        ((3, 2), (2, 2), 2, "x with 2 axes"),
        ((1, 3, 3, 2), (2, 2, 2, 4), (2,), r"stride \[2\] must have 2 numbers or one"),
    ],
)
def test_shapes_that_do_not_fit(x, filter, stride, message):
    for function in (transpose_conv, transpose_conv_reference):
        with pytest.raises(UserError, match=message):
            function(jnp.ones(x), jnp.ones(filter), stride=stride)
