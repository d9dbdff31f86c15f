import functools
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import forks, xla
from support.paths import ROOT

from unet_jax.models.fast import choice, convolution, native, plain
from unet_jax.runs.provenance import other_machine, write_provenance

SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 5, 4, 3, 8),
    (1, 7, 1, 32, 5),
    (3, 1, 9, 2, 32),
    (1, 3, 2, 31, 17),
    (5, 13, 11, 16, 16),
    (2, 64, 40, 9, 33),
    (1, 6, 7, 64, 32),
    (1, 2, 3000, 6, 7),
    (4, 128, 96, 16, 24),
]


def draw(b, h, w, c, f):
    rng = np.random.default_rng(b * h + w * c + f)
    return np.float32(rng.normal(size=(b, h, w, c))), np.float32(rng.normal(size=(b, h, w, f)))


def by_numpy(x, dy):
    x, dy = np.float64(x), np.float64(dy)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    _, h, w, _ = x.shape
    return np.array(
        [
            [np.tensordot(padded[:, i : i + h, j : j + w], dy, ([0, 1, 2],) * 2) for j in range(3)]
            for i in range(3)
        ]
    )


def convolved(x, kernel):
    x, kernel = np.float64(x), np.float64(kernel)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    _, h, w, _ = x.shape
    return sum(padded[:, i : i + h, j : j + w] @ kernel[i, j] for i, j in np.ndindex(3, 3))


@pytest.fixture(scope="module")
def kernel():
    found = native.load()
    if not found.name:
        pytest.skip(found.why)
    return jax.jit(native.filter_gradient)


@pytest.fixture(scope="module")
def convolution_kernel(kernel):
    return jax.jit(native.convolution)


@pytest.fixture
def no_kernel(monkeypatch, tmp_path):
    """Returns a function that makes the compiler another command, with an empty cache."""

    def use(command):
        monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path))
        monkeypatch.setenv("CXX", command)
        native._load.cache_clear()

    yield use
    native._load.cache_clear()


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_sums_of_numpy(shape, kernel):
    x, dy = draw(*shape)
    expected = by_numpy(x, dy)
    tolerance = 1e-6 * np.sqrt(np.prod(shape[:3]))  # a sum of so many numbers around 1
    np.testing.assert_allclose(kernel(x, dy), expected, rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize("c", range(1, 33))
def test_every_number_of_channels(c, kernel):
    x, dy = draw(2, 4, 3, c, 33 - c)
    np.testing.assert_allclose(kernel(x, dy), by_numpy(x, dy), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_equals_the_sums_of_numpy(shape, convolution_kernel):
    x, dy = draw(*shape)
    rng = np.random.default_rng(1)
    k = np.float32(rng.normal(size=(3, 3, shape[3], shape[4])))
    tolerance = 2e-7 * 9 * max(shape[3:])  # float32 sums of so many numbers around 1
    np.testing.assert_allclose(convolution_kernel(x, k), convolved(x, k), rtol=1e-6, atol=tolerance)
    turned = np.flip(k, (0, 1)).swapaxes(2, 3)
    found = jax.jit(native.data_gradient)(dy, k)
    np.testing.assert_allclose(found, convolved(dy, turned), rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize("c", range(1, 34))
def test_convolution_of_every_number_of_channels(c, convolution_kernel):
    x, _ = draw(2, 4, 3, c, 34 - c)
    k = np.float32(np.random.default_rng(c).normal(size=(3, 3, c, 34 - c)))
    np.testing.assert_allclose(convolution_kernel(x, k), convolved(x, k), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_added_and_the_least_value_of_a_convolution(shape, kernel):
    (x, _), rng = draw(*shape), np.random.default_rng(2)
    k, bias = (np.float32(rng.normal(size=(*s, shape[4]))) for s in ((3, 3, shape[3]), ()))
    tolerance = 2e-7 * 9 * max(shape[3:])
    sums = convolved(x, k) + bias
    for floor in (-np.inf, 0.0, 0.5):
        form = functools.partial(native.affine_convolution, floor=floor)
        found = jax.jit(form)(x, k, bias)
        np.testing.assert_allclose(found, np.maximum(sums, floor), rtol=1e-6, atol=tolerance)
    several = np.stack([bias, -2 * bias])
    each = jax.jit(jax.vmap(form, (None, None, 0)))(x, k, several)
    for found, own in zip(each, several, strict=True):
        np.testing.assert_array_equal(found, jax.jit(form)(x, k, own))
    x[0, -1, -1] = np.nan
    assert np.isnan(jax.jit(form)(x, k, bias)[0, -1, -1]).all()


def test_convolution_of_every_width_begins_and_ends_at_the_padding(convolution_kernel):
    for width in range(1, 27):
        x, k = np.ones((2, 3, width, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
        rows = np.array([2, 3, 2])
        columns = np.convolve(np.ones(width), np.ones(3), "same") if width > 2 else [width] * width
        expected = np.stack([np.outer(rows, columns)] * 2)
        np.testing.assert_array_equal(convolution_kernel(x, k)[..., 0], expected)


def test_values_that_are_not_numbers_reach_the_result(kernel, convolution_kernel):
    x, dy = draw(1, 8, 8, 4, 4)
    x[0, 3, 3, 2] = np.nan
    found = np.isnan(kernel(x, dy))
    assert found[:, :, 2].all()
    assert not found[:, :, [0, 1, 3]].any()
    found = np.isnan(convolution_kernel(x, np.ones((3, 3, 4, 4), np.float32)))
    expected = np.zeros_like(found)
    expected[0, 2:5, 2:5] = True
    np.testing.assert_array_equal(found, expected)


def test_vmap_gives_each_the_bytes_that_it_has_alone(kernel, convolution_kernel):
    pairs = [draw(2, 33, 20, 5, 7), draw(2, 33, 20, 5, 7), draw(2, 33, 20, 5, 7)]
    x, dy = (np.stack([pair[n] * (k + 1) for k, pair in enumerate(pairs)]) for n in (0, 1))
    kernels = np.stack([kernel(*pair) * (k + 1) for k, pair in enumerate(pairs)])
    for own, alone, second in (
        (native.filter_gradient, kernel, dy),
        (native.convolution, convolution_kernel, kernels),
    ):
        together = jax.jit(jax.vmap(own))(x, second)
        nested = jax.jit(jax.vmap(jax.vmap(own)))(x[:, None], second[:, None])[:, 0]
        shared = jax.jit(jax.vmap(own, (None, 0)))(x[0], second)
        for k in range(3):
            np.testing.assert_array_equal(together[k], alone(x[k], second[k]))
            np.testing.assert_array_equal(nested[k], together[k])
            np.testing.assert_array_equal(shared[k], alone(x[0], second[k]))


@pytest.mark.parametrize("c", [1, 7, 8, 20, 33, 64, 130])
def test_sums_of_channels_are_numpys_for_each_of_a_batch(c, kernel):
    rng = np.random.default_rng(c)
    x, y = np.float32(rng.normal(size=(2, 3, 2, 37, 30, c)))
    center = np.float32(rng.normal(size=(3, c)))
    moments = jax.jit(jax.vmap(native.channel_moments))(x, center)
    products = jax.jit(jax.vmap(native.channel_products))(y, x, center)
    d = np.float64(x) - center[:, None, None, None]
    expected = [values.sum((1, 2, 3)) for values in (d, d * d, np.float64(y), y * d)]
    for found, sums in zip((*moments, *products), expected, strict=True):
        np.testing.assert_allclose(found, sums, rtol=1e-6, atol=2e-4)
    for k in range(3):
        alone = jax.jit(native.channel_products)(y[k], x[k], center[k])
        np.testing.assert_array_equal(alone, [sums[k] for sums in products])


PROGRAM = """
import hashlib, sys
import jax, numpy as np
from unet_jax.models.fast import choice, native
from unet_jax.models.fast.convolution import conv3x3
rng = np.random.default_rng(0)
x = np.float32(rng.normal(size=(3, 61, 64, 16)))
dy, k = np.float32(rng.normal(size=(3, 61, 64, 24))), np.float32(rng.normal(size=(3, 3, 16, 24)))
@jax.jit
def step(k):
    y, back = jax.vjp(conv3x3, x, k)
    return y, *back(dy), *native_sums(y)
def native_sums(y):
    center = jax.numpy.ones(y.shape[-1])
    return *choice.channel_moments(y, center), *choice.channel_products(dy, y, center)
found = {hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in step(k))).hexdigest()
         for _ in range(5)}
text = step.lower(k).as_text()
has = all(f"_{name}" in text for name in native.FUNCTIONS)
print(choice.describe(), *found, has, sep="|")
"""


def run_program(**variables):
    env = xla.env(1) | variables
    done = forks.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("|")


def test_same_bytes_with_any_number_of_threads(kernel):
    found = [run_program(NPROC=str(threads)) for threads in (1, 2, 5)]
    assert [form for form, *_ in found] == ["native"] * 3
    assert all(len(each) == 3 and each == found[0] for each in found)
    assert found[0][2] == "True"


def test_xlas_form_where_it_is_switched_off_or_there_is_no_compiler(tmp_path):
    off = run_program(UNET_JAX_KERNELS="0")
    assert off[0] == "XLA's: UNET_JAX_KERNELS=0"
    assert off[2] == "False"
    broken = run_program(CXX="false", UNET_JAX_CACHE=str(tmp_path))
    assert broken[0].startswith("XLA's: false failed")
    assert broken[1:] == off[1:]
    assert not list(tmp_path.rglob("*.so"))


def test_a_compiler_that_is_not_there_or_says_nonsense_is_one_line(no_kernel, tmp_path):
    no_kernel("/no/such/compiler -x")
    assert native.load().name is None
    assert "No such file" in native.load().why
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\nprintf "error: no\\nmore" >&2\nexit 1\n')
    script.chmod(0o755)
    no_kernel(str(script))
    assert native.load() == native.Kernels(None, f"{script} failed: error: no")
    script.write_text('#!/bin/sh\nfor last; do :; done; echo nonsense > "$last"\n')
    no_kernel(str(script))
    assert native.load().name is None
    assert "\n" not in native.load().why
    assert not list(tmp_path.rglob("*.so"))
    no_kernel("'c++")
    assert native.load() == native.Kernels(None, "'c++ failed: No closing quotation")


def test_no_compiler_at_all(no_kernel, monkeypatch):
    no_kernel("")
    monkeypatch.setenv("PATH", "")
    assert native.load() == native.Kernels(None, "there is no C++ compiler")


@pytest.mark.parametrize("changed", native.SOURCES)
def test_another_source_is_another_target(changed, no_kernel, tmp_path, monkeypatch, kernel):
    compiled = native.runtime.cache_dir() / "kernels" / f"{native.load().name}.so"
    script = tmp_path / "compiler"  # gives what is compiled already
    script.write_text(f'#!/bin/sh\nfor last; do :; done; cp {compiled} "$last"\n')
    script.chmod(0o755)
    no_kernel(str(script))
    first = native.load().name
    for name in native.SOURCES:
        (tmp_path / name).write_text((native.FOLDER / name).read_text())
    (tmp_path / changed).write_text((native.FOLDER / changed).read_text() + "// other\n")
    monkeypatch.setattr(native, "FOLDER", tmp_path)
    native._load.cache_clear()
    second = native.load().name
    assert first != second
    x, dy = draw(2, 5, 4, 3, 8)
    text = jax.jit(lambda x, dy: native.filter_gradient(x, dy)).lower(x, dy).as_text()
    assert second in text
    assert first not in text


def lowered(function, *args, platform="cpu"):
    traced = jax.jit(lambda *args: function(*args)).trace(*args)
    return traced.lower(lowering_platforms=(platform,)).as_text()


def test_which_convolutions_have_it(monkeypatch, kernel):
    def has(c, f, dtype=jnp.float32, platform="cpu", size=8):
        shapes = [(2, size, size, c), (3, 3, c, f), (2, size, size, f)]
        x, k, dy = (jax.ShapeDtypeStruct(s, dtype) for s in shapes)

        def gradients(x, k, dy):
            numbers = {"dimension_numbers": plain.DIMENSIONS}

            def convolve(x, k):
                return convolution.convolve(x, k, (1, 1), plain.SAME, **numbers)

            y, back = jax.vjp(convolve, x, k)
            return y, *back(dy)

        text = lowered(gradients, x, k, dy, platform=platform)
        names = "convolution", "filter_gradient"
        counts = [len(re.findall(rf"unet_jax_\w+_{own}", text)) for own in names]
        return tuple(counts)  # forward and back to the images; back to the kernel

    none, all_three = (0, 0), (2, 1)
    assert has(16, 16) == none  # on eight devices
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert choice.describe() == "native"
    assert [has(*pair) for pair in ((16, 16), (3, 64), (64, 32))] == [all_three] * 3
    assert [has(*pair) for pair in ((64, 64), (8, 65), (128, 64))] == [none] * 3
    large = [has(*pair, size=64) for pair in ((64, 64), (128, 64), (128, 65), (129, 3))]
    assert large == [(0, 1), (0, 1), none, none]
    assert has(64, 64, size=63) == none
    assert has(16, 16, jnp.bfloat16) == none
    assert has(16, 16, platform="cuda") == none
    assert has(16, 16, platform="tpu") == none
    monkeypatch.setenv("UNET_JAX_KERNELS", "0")
    assert has(16, 16) == none
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    assert choice.describe() == ""


def test_a_run_that_goes_on_with_another_form_says_so(tmp_path):
    devices = {"count": 1, "kind": "cpu", "platform": "cpu"}
    began = "XLA's: there is no C++ compiler"
    write_provenance(tmp_path, {}, devices, kernels=began)
    assert json.loads((tmp_path / "run.json").read_text())["kernels"] == began
    assert other_machine(tmp_path, devices, "XLA's: UNET_JAX_KERNELS=0") == []
    assert other_machine(tmp_path, devices, "native") == [
        f"began with these kernels: {began}; goes on with: native. sums may round "
        "otherwise (about 1e-7)."
    ]


def test_compiled_by_many_at_once_and_kept(tmp_path, kernel):
    code = "from unet_jax.models.fast import native; print(native.load())"
    env = os.environ | {"UNET_JAX_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    jobs = [
        subprocess.Popen([sys.executable, "-c", code], env=env, cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    said = {job.communicate()[0] for job in jobs}
    assert len(said) == 1
    assert b"name='unet_jax_" in said.pop()
    assert [file.suffix for file in (tmp_path / "kernels").iterdir()] == [".so"]
