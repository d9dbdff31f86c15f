import ast
import inspect

import pytest
from support.planted import CASES

from unet_jax.data.check import check
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sources import open_data
from unet_jax.doctor.faults import FAULTS, find
from unet_jax.doctor.survey import survey


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


def paste(config, mend):
    """Sets the values that the lines of a mend name, as a page would."""
    for line in mend.split("\n"):
        key, _, value = line.removeprefix("config.").partition("=")
        *path, name = key.split(".")
        section = config
        for part in path:
            section = section[part]
        assert name in section, key
        section[name] = ast.literal_eval(value)


def first_batch(config):
    """Opens the data of a config, checks both splits as training does, and reads a batch."""
    dataset, loading = open_data(**config.data)
    for split in ("train", "val"):
        source = dataset.splits[split]
        check(source, split, len(dataset.class_names), loading.value_range or None)
    options = {"batch_size": 4, "seed": 0, "start": 0, "stop": 1}
    [batch] = train_batches(dataset.splits["train"], loading, **options)
    return batch, dataset


@pytest.mark.parametrize("plant", CASES, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_named_and_its_mend_works(tmp_path, plant):
    config = plant(tmp_path / "data", True)
    found = find(survey(config))
    assert {one.fault for one in found} == {CASES[plant]}, found
    assert all(one.says and one.mend for one in found)
    if not all(one.is_config() for one in found):
        return
    for one in found:
        paste(config, one.mend)
    batch, dataset = first_batch(config)
    assert batch["image"].shape[:3] == (4, *config.data.image_size)
    assert batch["weight"].any()
    assert batch["label"][batch["weight"] > 0].max() < len(dataset.class_names)
    assert find(survey(config)) == []


@pytest.mark.parametrize("plant", CASES, ids=lambda plant: plant.__name__)
def test_nothing_is_found_without_it(tmp_path, plant):
    config = plant(tmp_path / "data", False)
    assert find(survey(config)) == []
    first_batch(config)


def test_every_fault_is_planted_at_least_once():
    assert {*CASES.values()} == FAULTS.keys() - {"opening"}
    assert len(CASES) >= 30
    assert all(len(inspect.getsource(plant).splitlines()) <= 20 for plant in CASES)
