"""What `unet_jax.explain` draws: numbers against other ways to compute them, files, and errors."""

import json
import os
import subprocess
import sys

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.signal import correlate2d
from support import forks
from support.paths import ROOT

from unet_jax.errors import UserError
from unet_jax.explain import draw_transpose, draw_windows, lessons, windows
from unet_jax.figures import colours
from unet_jax.models.up.geometry import Geometry

GEOMETRIES = [
    Geometry(3, 2, 1),
    Geometry(2, 2, 0),
    Geometry(3, 2, 0, 1),
    Geometry(3, 3, 2, 2),
    Geometry(2, 1, 1),
    Geometry(3, 2, 1, 1, 2),
    Geometry(1, 3, 0, 2),
]


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).integers(-4, 9, shape).astype(float)


def dilate(kernel, d):
    wide = np.zeros([d * (n - 1) + 1 for n in kernel.shape])
    wide[::d, ::d] = kernel
    return wide


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("shape", [(2, 2), (3, 2)], ids=str)
def test_transposed_convolution_step_by_step(geometry, shape):
    f, s, p, extra, d = geometry
    x, kernel = numbers(*shape), numbers(f, f, seed=1)
    steps = windows.transpose_conv_steps(x, kernel, geometry)
    assert [step.pixel for step in steps.placements] == list(np.ndindex(*shape))
    so_far = np.zeros(steps.kept.shape)
    for step in steps.placements:
        np.testing.assert_array_equal(step.before, so_far)
        i, j = step.pixel
        for a in range(f):
            for b in range(f):
                assert step.product[a, b] == x[i, j] * kernel[a, b]
                so_far[s * i + d * a, s * j + d * b] += x[i, j] * kernel[a, b]
        np.testing.assert_array_equal(step.after, so_far)
    # The same by another road: zeros between the pixels, then a full convolution.
    spread = np.zeros([s * (n - 1) + 1 for n in shape])
    spread[::s, ::s] = x
    wide = dilate(kernel, d)
    whole = correlate2d(spread, wide[::-1, ::-1], mode="full")
    end = [s * (n - 1) + d * (f - 1) + 1 - 2 * p + extra for n in shape]
    whole = np.pad(whole, ((0, extra), (0, extra)))
    expected = whole[p : p + end[0], p : p + end[1]]
    np.testing.assert_allclose(steps.result, expected, atol=1e-12)
    np.testing.assert_array_equal(so_far[steps.kept].reshape(end), steps.result)
    ones = windows.transpose_conv_steps(np.ones(shape), np.ones((f, f)), geometry)
    np.testing.assert_array_equal(steps.overlaps, ones.result)


@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if not g.output_padding], ids=str)
def test_convolution_and_pooling_step_by_step(geometry):
    f, s, p, _, d = geometry
    x, kernel = numbers(5, 4), numbers(f, f, seed=1)
    steps = windows.window_steps(x, kernel, geometry)
    whole = correlate2d(np.pad(x, p), dilate(kernel, d), mode="valid")[::s, ::s]
    np.testing.assert_allclose(steps.result, whole)
    for step in steps.windows:
        assert step.products is not None
        assert step.products.sum() == step.result == step.after[step.pixel]
    left = [np.isnan(step.after).sum() for step in steps.windows]
    assert left == [*range(len(left) - 1, -1, -1)]


@pytest.mark.parametrize(("f", "s", "p"), [(2, 2, 0), (3, 2, 1), (3, 1, 0)])
def test_max_pooling_is_that_of_flax(f, s, p):
    x = numbers(6, 5) - 20  # so that zeros in the padding would win
    steps = windows.window_steps(x, None, Geometry(f, s, p))
    padding = ((p, p), (p, p))
    expected = nn.max_pool(jnp.asarray(x)[None, ..., None], (f, f), (s, s), padding)
    np.testing.assert_array_equal(steps.result, expected[0, ..., 0])
    for step in steps.windows:
        assert step.chosen is not None
        assert step.values[step.chosen] == step.result


def frames_of(path):
    with Image.open(path) as image:
        assert image.format == "GIF"
        assert image.info["loop"] == 0
        times = []
        for k in range(image.n_frames):
            image.seek(k)
            times.append(image.info["duration"])
        return image.size, times


def test_sheet_and_animation_show_every_step(tmp_path):
    steps = windows.transpose_conv_steps(numbers(2, 1), numbers(3, 3), Geometry(3, 2, 1))
    lesson = draw_transpose.explain_transpose_conv(steps)
    for panel, step in zip(lesson.steps, steps.placements, strict=True):
        grids = [item for item in panel.items if not isinstance(item, str)]
        taken, kernel, placed, sums = grids
        assert np.argwhere(taken.marked).tolist() == [list(step.pixel)]
        np.testing.assert_array_equal(kernel.values, steps.kernel)
        np.testing.assert_array_equal(placed.values[step.window], step.product)
        assert np.isnan(placed.values).sum() == placed.values.size - step.product.size
        np.testing.assert_array_equal(sums.values, step.after)
    assert "Rows: 2·(2 - 1) + 1·(3 - 1) + 1 - 2·1 + 0 = 3. Columns: " in lesson.law
    assert "Checkerboard: filter size 3" in lesson.extra[0].items[1].text
    png, gif = lessons.write_lesson(lesson, tmp_path / "new" / "lesson")
    size, times = frames_of(gif)
    assert size[0] == 900
    assert times == [2500, *[2000] * 2, 4000, 4000]  # zeros, placements, the cut, the result
    with Image.open(png) as image:
        assert image.width == 900
    before = [(tmp_path / "new" / f"lesson.{kind}").read_bytes() for kind in ("png", "gif")]
    lessons.write_lesson(lesson, tmp_path / "new" / "lesson")
    assert before == [(tmp_path / "new" / f"lesson.{kind}").read_bytes() for kind in ("png", "gif")]


def test_sheet_of_many_steps_leaves_some_out(tmp_path, monkeypatch):
    steps = windows.window_steps(numbers(6, 6), None, Geometry(2, 1))
    lesson = draw_windows.explain_windows(steps)
    written = {}
    monkeypatch.setattr(lessons, "write_sheet", lambda *a: written.update(sheet=a[-1]))
    monkeypatch.setattr(lessons, "write_animation", lambda *a: written.update(gif=a[-2]))
    lessons.write_lesson(lesson, tmp_path / "x")
    assert len(lesson.steps) == 25
    assert written["gif"] == [lesson.start, *lesson.steps, *lesson.end]
    captions = [panel.caption for panel in written["sheet"]]
    assert captions[6].startswith("… 19 more steps")
    assert [c.split(":")[0] for c in captions[1:6]] == [f"Step {k} of 25" for k in range(1, 6)]
    assert captions[7].startswith("Step 25 of 25")


def test_no_padding_and_output_padding_are_told():
    x, kernel = numbers(2, 2), numbers(2, 2)
    plain = windows.transpose_conv_steps(x, kernel, Geometry(2, 2))
    lesson = draw_transpose.explain_transpose_conv(plain)
    assert len(lesson.end) == 1
    assert "no checkerboard" in lesson.extra[0].items[1].text
    more = windows.transpose_conv_steps(x, kernel, Geometry(2, 2, 0, 1))
    end = draw_transpose.explain_transpose_conv(more).end
    assert "Output padding 1" in end[0].items[-1].text
    assert more.result.shape == (5, 5)


def test_gif_needs_frames_of_one_size(tmp_path):
    frames = [np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)]
    for wrong, seconds in ((frames, [1, 1]), ([], []), (frames[:1], [1, 1])):
        with pytest.raises(ValueError, match="one shape"):
            colours.save_gif(tmp_path / "x.gif", wrong, seconds)


def test_numbers_are_read(tmp_path):
    expected = [[1, -2.5], [3, 4]]
    (tmp_path / "a.csv").write_text("1,-2.5\n3,4\n")
    (tmp_path / "a.txt").write_text("1 -2.5\n\n3\t4")
    for value in ("1 -2.5; 3 4", "1,-2.5;3,4", tmp_path / "a.csv", tmp_path / "a.txt"):
        assert windows.read_numbers("input", str(value)).tolist() == expected


@pytest.mark.parametrize("value", ["1 2; 3", "", ";", "1 x", "1 nan", "1 inf", "no.csv", "no.txt"])
def test_numbers_that_are_none(value):
    with pytest.raises(UserError, match=f"--kernel={value}.*1 2; 3 4"):
        windows.read_numbers("kernel", value)


def run(*flags, cwd=ROOT, **env):
    line = [sys.executable, "-m", "unet_jax.explain", *map(str, flags)]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | env
    return forks.run(line, cwd=cwd, env=env)


MISTAKES = [
    (["--padding=3"], ["--padding=3", "below the filter size f=3"]),
    (["--size=1", "--filter=2"], ["--filter=2", "1x1", "= 0 must be 1 or more"]),
    (["--operation=conv", "--input=1", "--padding=0"], ["--padding=0", "1x1", "no output"]),
    (["--kernel=1 2; 3 4"], ["--kernel=1 2; 3 4", "2x2", "3x3"]),
    (["--operation=max_pool", "--kernel=1"], ["--kernel=1", "max_pool", "--filter"]),
    (["--size=1000000000"], ["--size=1000000000", "[1, 24]"]),
    (["--operation=unet", "--size=3"], ["--size=3", "unet", "--num_classes"]),
    (["--output=file/x"], ["--output=file/x", "Not a directory"]),
    (["--input=1 2; 3"], ["--input=1 2; 3", "rows of [1, 2] numbers"]),
]
ASK = """
import contextlib, io, json, sys
from absl import flags
from unet_jax import command_line
from unet_jax.explain import __main__ as explain
for line in json.loads(sys.argv[1]):
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command_line.run(["explain", *line], explain.explain, explain)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the command answers to all mistakes, in one process: its start takes a second."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "file").write_text("")
    line = [sys.executable, "-c", ASK, json.dumps([flags for flags, _ in MISTAKES])]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    text = subprocess.check_output(line, cwd=folder, env=env, text=True)
    assert not list(folder.rglob("*.png"))
    return [json.loads(answer) for answer in text.splitlines()]


def assert_is_one_line(code, out, error, says):
    assert code == 2
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert not out
    assert not [piece for piece in says if piece not in error], error


@pytest.mark.parametrize("index", range(len(MISTAKES)), ids=lambda i: MISTAKES[i][0][0])
def test_mistakes(answers, index):
    assert_is_one_line(*answers[index], MISTAKES[index][1])


def test_a_mistake_ends_the_command(tmp_path):
    flags, says = MISTAKES[0]
    result = run(*flags, cwd=tmp_path)
    assert_is_one_line(result.returncode, result.stdout, result.stderr, says)
    assert not list(tmp_path.rglob("*.png"))


def test_help_imports_neither_jax_nor_matplotlib(tmp_path):
    for name in ("jax", "matplotlib", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')\n")
    result = run("--help", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert result.returncode == 0, result.stderr
    assert "--operation" in result.stdout


def test_bare_command(tmp_path):
    result = run("--size=2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    files = [tmp_path / line for line in result.stdout.splitlines()]
    assert [file.name for file in files] == ["transpose_conv.png", "transpose_conv.gif"]
    assert len(frames_of(files[1])[1]) == 7


def test_unet_command(tmp_path):
    result = run("--operation=unet", "--config=configs/tiny.py", f"--output={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["unet.png"]
    cube = ["--config=configs/tiny.py", "--config.model.dimensions=3"]  # of the image's side
    result = run("--operation=unet", *cube, f"--output={tmp_path / 'cube'}")
    assert result.returncode == 0, result.stderr
    result = run("--operation=unet", "--config.model.norm=foo", f"--output={tmp_path / 'x'}")
    assert result.returncode == 2
    assert result.stderr.startswith("error: config.model.norm='foo' is not known; allowed are ")
    assert len(result.stderr.splitlines()) == 1
