"""Every number and mask of small runs against NumPy on the files and plain network calls."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from experiments.truth.cases import FACTORS, all_cases, pairwise
from experiments.truth.check import check_case
from experiments.truth.recompute import bilinear


def test_every_pair_of_two_values_is_among_the_cases():
    cases = pairwise()
    assert len(cases) < len(all_cases()) / 6
    for (i, first), (j, second) in itertools.combinations(enumerate(FACTORS.values()), 2):
        for values in itertools.product(first, second):
            assert any((case[i], case[j]) == values for case in cases)


def test_the_bilinear_samples_are_scipys():
    x = np.random.default_rng(0).normal(size=(7, 5, 2))
    rows, columns = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in ((10, 7), (3, 5)))
    where = np.meshgrid(rows, columns, indexing="ij")
    expected = [map_coordinates(x[..., k], where, order=1, mode="nearest") for k in range(2)]
    np.testing.assert_allclose(bilinear(x, (10, 3)), np.stack(expected, -1))


@pytest.mark.parametrize("case", pairwise(), ids=lambda case: case.name)
def test_every_number_and_mask_is_the_truth(case, tmp_path):
    assert check_case(case, tmp_path) == []
