"""The figure of recall by size."""

import numpy as np
import pytest
from support.figure_data import read

from unet_jax.figures import sizes
from unet_jax.metrics.sizes import SIZES


def test_names_of_sizes():
    names = sizes.size_names(SIZES)
    assert names[:3] == ["1 to 3", "4 to 15", "16 to 63"]
    assert names[-1] == "262,144 or more"
    assert sizes.size_names((1, 2, 4)) == ["1", "2 to 3", "4 or more"]


@pytest.mark.parametrize("k", [1, 2, 30])
def test_lines_are_means_over_objects(k, tmp_path, monkeypatch):
    drawn = {}
    line = sizes._line

    def keep(axes, places, objects, shares, name, index):
        line(axes, places, objects, shares, name, index)
        drawn[name] = axes.lines[-1].get_xydata()

    monkeypatch.setattr(sizes, "_line", keep)
    objects, shares = np.zeros((2, k, 10))
    objects[:, 2], shares[:, 2] = 4, 2.9 + np.arange(k) / k
    objects[0, 4], shares[0, 4] = 2, 1.5
    names = [f"class {i}" for i in range(k)]
    sizes.recall_by_size(tmp_path / "s.png", objects, shares, SIZES, names, "title")
    np.testing.assert_allclose(drawn["class 0"], [[0, 2.9 / 4], [2, 0.75]])
    assert len(drawn) == min(k, 8) + (k > 1)
    if k > 1:
        of_all = [[0, shares[:, 2].sum() / (4 * k)], [2, 0.75]]
        np.testing.assert_allclose(drawn["all objects"], of_all)
    assert read(tmp_path / "s.png").shape == (460, 840, 3)


def test_without_an_object_there_is_a_figure_all_the_same(tmp_path):
    none = np.zeros((2, 10))
    sizes.recall_by_size(tmp_path / "s.png", none, none, SIZES, ("a", "b"), "title")
    assert (tmp_path / "s.png").is_file()
