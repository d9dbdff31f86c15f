"""The report's test and interval on synthetic studies whose truth is known."""

import re

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from scipy import stats
from support.paths import ROOT

from experiments.calibration import __main__ as calibration
from experiments.calibration import scores
from experiments.calibration.synthetic import Spread, draw_images, draw_networks
from unet_jax.metrics import resampling


def is_at_most(found, of, rate):
    """Whether so many of so many are no sign of a higher rate."""
    return stats.binomtest(found, of, rate, alternative="greater").pvalue > 0.01


def test_equal_variants_are_called_different_at_most_at_the_stated_rate():
    found = calibration.run_tests(400, 3, images=30, seed=1)
    assert is_at_most(found.one, found.studies, 0.05)
    assert is_at_most(found.any, found.studies, 0.05)


def test_a_better_variant_is_found():
    found = calibration.run_tests(100, 5, effect=0.4, images=30, seed=2)
    assert found.gain > 0.04
    assert found.better > 90


def test_without_correction_the_rate_would_be_higher(monkeypatch):
    """The check above can fail: five equal variants, each tested as if it were the only one."""
    monkeypatch.setattr(calibration.statistics, "holm", lambda p: p)
    found = calibration.run_tests(400, 3, equal=5, images=30, seed=1)
    assert not is_at_most(found.any, found.studies, 0.05)


@pytest.mark.parametrize(("images", "missed"), [(10, 0.08), (30, 0.06)])
def test_interval_over_images_holds_the_true_difference(images, missed):
    count, held = calibration.run_intervals(200, images, resamples=400, seed=0)
    assert count == 200
    assert is_at_most(count - held, count, missed)
    assert held < count


def test_samples_that_are_too_small_for_an_interval_do_not_count_as_held():
    assert calibration.run_intervals(20, 9, resamples=20) == (0, 0)
    assert calibration.run_errors(3, 2, spread=Spread(), images=9, resamples=20) == (0, 0, 0)


@pytest.mark.parametrize(("flag", "value"), [("seeds", ["3", "1"]), ("images", ["20", "9"])])
def test_what_gives_no_interval_is_refused(flag, value):
    refused = pytest.raises(flags.IllegalFlagValueError, match="each must be a whole number from")
    with refused, flagsaver.flagsaver(**{flag: value}):
        pass


def test_only_the_interval_over_both_is_right_where_variants_differ_by_image():
    seeds, _, both = calibration.run_errors(100, 5, spread=Spread(taste=0.5), resamples=200)
    assert not is_at_most(seeds, 100, 0.05)
    assert is_at_most(both, 100, 0.05)


def test_planted_effects_are_in_the_counts():
    rng = np.random.default_rng(0)
    images = draw_images(rng, 500)
    drawn = draw_networks(rng, images, (0.0, 0.0, 0.5), 2, Spread())
    assert drawn.shape == (3, 2, 500, 3, 3)
    np.testing.assert_array_equal(
        drawn.sum(axis=-1), np.broadcast_to(images.pixels, (3, 2, 500, 3))
    )
    right = np.einsum("vsnkk->v", drawn) / drawn.sum(axis=(1, 2, 3, 4))
    assert right[2] - right[0] > 0.03
    assert abs(right[1] - right[0]) < 0.015


@pytest.mark.parametrize(("name", "images"), [("distance", 60), ("area", 40), ("error", 40)])
def test_intervals_of_scores_that_are_no_overlap_hold_the_truth(name, images):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "POPULATION", 600)
        patch.setattr(scores, "RESAMPLES", 400)
        count, held = scores.run(name, 60, images, seed=1)
    assert count == 60
    assert is_at_most(count - held, count, 0.07)
    assert held < count, "not all: they are no wider than they need to be"


def test_the_shares_that_cards_say_are_those_of_the_page():
    text = (ROOT / "docs" / "studies" / "statistics.md").read_text()
    _, _, table = text.partition("| images | overlap |")
    rows = [re.findall(r"[\d.]+", line) for line in table.split("\n\n")[0].split("\n")[2:]]
    columns = {"overlap": 1, "distance": 2, "area": 4, "error": 5}
    for kind, column in columns.items():
        said = {int(row[0]): float(row[column]) / 100 for row in rows if int(row[0]) < 50}
        assert resampling.HELD[kind] == pytest.approx(said)
        assert resampling.HELD[kind].keys() == said.keys()
