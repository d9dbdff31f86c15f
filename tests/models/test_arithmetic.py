"""The geometry of transposed convolutions and windows, counted pixel by pixel."""

import itertools

import numpy as np
import pytest

from unet_jax.errors import UserError
from unet_jax.models.up.geometry import LAW, WINDOW_LAW, Geometry

GEOMETRIES = [
    Geometry(f, s, p, extra, d)
    for f, s, d in itertools.product(range(1, 6), range(1, 5), (1, 2, 3))
    for p in range(f)
    for extra in range(max(s, d))
]
N = 9


def pairs(g):
    """Returns (i, q) where input pixel i adds to pixel q of the output, before anything is cut."""
    return [(i, g.stride * i + g.dilation * k) for i in range(N) for k in range(g.filter)]


def test_output_grid_and_what_is_kept_of_it():
    for g in GEOMETRIES:
        grid = max(q for _, q in pairs(g)) + 1
        size = grid - 2 * g.padding + g.output_padding
        if size < 1:
            with pytest.raises(UserError, match="must be 1 or more"):
                g.output_size(N)
            continue
        assert g.output_size(N) == size, g
        assert g.kept(N) == slice(g.padding, g.padding + size)
        assert g.grid_size(N) == max(grid, g.padding + size)
        assert eval(g.law_in_numbers(N)) == size
        for i in range(N):
            tapped = range(g.grid_size(N))[g.taps(i)]
            assert [*tapped] == [q for j, q in pairs(g) if j == i], g


def test_sources_hold_every_pixel_that_adds_and_are_tight():
    for g in GEOMETRIES:
        middle = range(4 * g.stride, 5 * g.stride)
        if g.reach > 4 * g.stride:  # pixels in the middle would see beyond the ends
            continue
        for q in middle:
            adding = [i for i, at in pairs(g) if at == q]
            low, high = g.sources(q - g.padding, q - g.padding)
            assert all(low <= i <= high for i in adding), (g, q)
            if g.dilation == 1 and g.filter >= g.stride:
                assert (low, high) == (min(adding), max(adding)), (g, q)


def test_windows_are_those_that_fit():
    for g in GEOMETRIES:
        if g.output_padding or g.padding >= g.reach:
            continue
        padded = N + 2 * g.padding
        starts = [a for a in range(0, padded, g.stride) if a + g.reach <= padded]
        if not starts:
            with pytest.raises(UserError, match="no output is left"):
                g.window_output_size(N)
            continue
        assert g.window_output_size(N) == len(starts), g
        assert [g.taps(i).start for i in range(len(starts))] == starts
        numbers = g.window_law_in_numbers(N).replace("⌊(", "((").replace(") /", ") //")
        assert eval(numbers.replace("⌋", ")")) == len(starts)


def test_the_laws_in_letters_are_those_in_numbers():
    g, names = Geometry(5, 3, 2, 1, 2), {"f": 5, "s": 3, "p": 2, "d": 2, "n": N}
    text = LAW.replace("output padding", "1").replace("s(", "s*(").replace("d(", "d*(")
    assert eval(text.replace("2p", "2*p"), names) == g.output_size(N)
    text = WINDOW_LAW.replace("d(", "d*(").replace("2p", "2*p")
    text = text.replace("⌊", "(").replace("⌋", ")").replace(" / ", " // ")
    assert eval(text, names) == g._replace(output_padding=0).window_output_size(N)


def test_phases_say_where_every_output_pixel_is_computed():
    for g in GEOMETRIES:
        if g.dilation > 1 or g.reach - 2 * g.padding + g.output_padding < 1:
            continue
        phases, size = g.phases(N), g.output_size(N)
        rng = np.random.default_rng(0)
        x, filter = rng.integers(1, 9, N), rng.integers(1, 9, g.filter)
        expected = np.zeros(g.grid_size(N), int)
        for i in range(N):
            expected[g.taps(i)] += x[i] * filter
        kernel = np.zeros(phases.taps * g.stride, int)
        kernel[: g.filter] = filter
        kernel = kernel.reshape(phases.taps, g.stride)[::-1]
        low, high = phases.padding
        padded = np.pad(x, (max(low, 0), max(high, 0)))
        padded = padded[max(-low, 0) : len(padded) - max(-high, 0)]
        rows = [padded[m : m + phases.taps] @ kernel for m in range(len(padded) - phases.taps + 1)]
        found = np.concatenate(rows)[phases.start : phases.start + size]
        np.testing.assert_array_equal(found, expected[g.kept(N)], err_msg=str(g))
