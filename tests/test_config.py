import json
import runpy

import flax.linen as nn
import pytest
from ml_collections import ConfigDict
from support.paths import ROOT

from configs import oxford_pets
from unet_jax.compare import differences, other_results
from unet_jax.config import SECTIONS, call, check_sections, choose, load, to_json
from unet_jax.defaults import to_config
from unet_jax.errors import UserError
from unet_jax.experiment import assemble

PAGES = sorted((ROOT / "configs").glob("*.py"))


def configured(
    name: str,
    rate: float = 0.5,
    steps: int = 3,
    flag: bool = False,
    sizes: tuple[int, ...] = (1, 2),
    names: tuple[str, ...] = (),
    more: dict | None = None,
    *,
    classes: int,
):
    return name, rate, steps, flag, sizes, names, more, classes


def test_a_config_of_json_is_the_one_that_was_written():
    config = oxford_pets.get_config("cpu")
    config.data.update({"source": "synthetic", "synthetic": {"train": 8, "val": 2, "size": 16}})
    config.data.folder = {"class_names": ("a", "b"), "label_map": ((0, 0), (255, 1))}
    config.model.features, config.model.up_filters = (4, 8, 8), ((4, 1, 2), (2, 0, 2))
    read = to_config(json.loads(to_json(config)))
    assert read.model.up_filters == [[4, 1, 2], [2, 0, 2]]
    assert differences(config, read) == []
    assert to_json(read) == to_json(config)
    one, other = assemble(config), assemble(read)
    assert other.model == one.model
    assert other.model.up_filters == ((4, 1, 2), (2, 0, 2))
    assert other.loading == one.loading
    read.model.up_filters = [[4, 1, 2], [2, 0, "2"]]
    assert differences(config, read) == [
        "config.model.up_filters: ((4, 1, 2), (2, 0, 2)) -> ((4, 1, 2), (2, 0, '2'))"
    ]
    read.model.features = [4, "8"]
    with pytest.raises(UserError, match=r"^config\.model\.features\[1\]='8' is of type str"):
        assemble(read)


def test_a_key_that_an_older_config_lacks_is_its_default():
    new, old = (oxford_pets.get_config("cpu") for _ in range(2))
    del old.optim["accumulate"], old.model["dropout"], old.data["workers"]
    assert new.optim.accumulate == 1
    assert differences(old, new) == ["config.data.workers: 4 -> 2"]  # the page's is another
    new.optim.accumulate = 3
    assert differences(old, new) == [
        "config.data.workers: 4 -> 2",
        "config.optim.accumulate: 1 -> 3",
    ]
    assert other_results(old, new) == ["config.optim.accumulate: 1 -> 3"]
    new.optim["nonsense"] = 1
    assert "config.optim.nonsense: '(absent)' -> 1" in differences(old, new)


def test_call_gives_a_section_as_arguments():
    section = ConfigDict({"name": "x", "rate": 2, "sizes": (7,), "names": ("a",), "flag": True})
    expected = ("x", 2, 3, True, (7,), ("a",), None, 4)
    assert call(configured, "config.part", section, classes=4) == expected
    assert call(configured, "config.part", section.to_dict(), classes=4) == expected


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"nome": "x"}, r"config\.part\.nome is not a config key; allowed are name, rate, steps"),
        ({"classes": 3}, r"config\.part\.classes is not a config key"),
        ({}, r"config\.part\.name is missing from the config page"),
        ({"name": "x", "rate": "2"}, r"config\.part\.rate='2' .*str.* float.* 0\.5"),
        ({"name": "x", "rate": True}, r"config\.part\.rate=True .*bool.* float"),
        ({"name": "x", "steps": 2.0}, r"config\.part\.steps=2\.0 .*float.* int.* 3"),
        ({"name": "x", "steps": True}, r"config\.part\.steps=True .*bool.* int"),
        ({"name": "x", "flag": 1}, r"config\.part\.flag=1 .*int.* bool"),
        ({"name": "x", "sizes": [1, "2"]}, r"config\.part\.sizes\[1\]='2' .*str.* int"),
        ({"name": "x", "sizes": 1}, r"config\.part\.sizes=1 .*int.* tuple.* \(1, 2\)"),
        ({"name": "x", "sizes": (1, "2")}, r"config\.part\.sizes\[1\]='2' .*str.* int"),
        (5, r"config\.part=5 must be a section"),
    ],
)
def test_call_says_what_does_not_fit(section, says):
    with pytest.raises(UserError, match=f"^{says}"):
        call(configured, "config.part", section, classes=4)


class Module(nn.Module):
    classes: int
    width: int = 3

    def __call__(self, x):
        return x


def test_call_hides_what_linen_adds_to_modules():
    assert call(Module, "config.model", {"width": 5}, classes=2).width == 5
    for name in ("name", "parent"):
        with pytest.raises(UserError, match=rf"{name} is not a config key; allowed are width\."):
            call(Module, "config.model", {name: "x"}, classes=2)


def test_choose():
    options = {"one": 1, "two": 2}
    assert choose(options, "config.x", "two") == 2
    with pytest.raises(UserError, match=r"^config\.x='three' is not known; allowed are one, two\."):
        choose(options, "config.x", "three")


def test_sections():
    good = {name: {} for name in SECTIONS}
    check_sections(ConfigDict(good))
    with pytest.raises(UserError, match=r"unknown sections \['extra'\]"):
        check_sections(ConfigDict(good | {"extra": {}}))
    del good["optim"]
    with pytest.raises(UserError, match=r"lacks the sections \['optim'\].*data, augment, model"):
        check_sections(ConfigDict(good))


def test_differences():
    old = ConfigDict({"a": {"x": 1, "y": (1, 2), "z": {"deep": "t"}}, "b": 0.5})
    assert differences(old, ConfigDict(old.to_dict())) == []
    new = ConfigDict({"a": {"x": 2, "y": (1, 3), "z": {"deep": "t"}, "w": None}, "c": 0.5})
    assert differences(old, new) == [
        "config.a.w: '(absent)' -> None",
        "config.a.x: 1 -> 2",
        "config.a.y: (1, 2) -> (1, 3)",
        "config.b: 0.5 -> '(absent)'",
        "config.c: '(absent)' -> 0.5",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_survive_json(page, tmp_path):
    config = runpy.run_path(str(page))["get_config"]()
    file = tmp_path / "config.json"
    file.write_text(to_json(config))
    again = load(file)
    assert again.to_dict() == config.to_dict()
    assert differences(config, again) == []
    assert to_json(again) == to_json(config)
    check_sections(again)


def test_tuples_in_tuples_survive_json(tmp_path):
    values = {"map": ((0, 1), (255, 0)), "none": None, "empty": (), "t": True}
    config = ConfigDict({name: {} for name in SECTIONS} | {"loss": {"a": values}})
    file = tmp_path / "config.json"
    file.write_text(to_json(config))
    assert load(file).loss.a.to_dict() == values


@pytest.mark.parametrize("text", ["{", "[1]", "5", "", "\xff", '{"a": {}}'])
def test_what_is_no_config(tmp_path, text):
    file = tmp_path / "config.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=rf"^{file} is not a config that a run wrote"):
        load(file)


def test_a_missing_config(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match=r"config\.json does not exist; give --workdir"):
            load(folder / "config.json")
