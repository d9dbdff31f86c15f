"""The README's table of results is what the cards say."""

import numpy as np
import pytest
from support.paths import ROOT

from experiments import results
from unet_jax.cards.card import digest, find_wrong, make_card, read_card, write_card
from unet_jax.cards.judge import Counted
from unet_jax.errors import UserError

COMMITTED = sorted(results.CARDS.glob("*.json"))


def test_the_readme_has_the_table_of_the_cards():
    text = (ROOT / "README.md").read_text()
    assert results.put_table(text, results.table(results.CARDS)) == text


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_every_committed_card_is_right_and_its_page_says_the_same(file):
    card = read_card(file)
    assert find_wrong(card, file) == []
    assert file.with_suffix(".md").read_text() == results.page(card, file.stem)
    assert any(file.stem.startswith(f"{row.name}_seed_") for row in results.ROWS)


@pytest.fixture
def folder(tmp_path, card):
    for seed, minutes in ((0, 4.2), (1, 5.4)):
        run = card["run"] | {"seed": seed, "minutes": minutes}
        run["command"] = (
            f"python -m unet_jax.main --config=configs/shapes.py --config.train.seed={seed} "
            f"--config.data.path=data --workdir=runs/{seed}"
        )
        changed = card | {"run": run}
        changed["sha256"] = digest(changed)
        file = tmp_path / f"card_{seed}.json"
        file.write_text(write_card(changed))
        results.add(file, f"shapes_seed_{seed}", tmp_path / "cards")
    return tmp_path / "cards"


def test_a_row_has_all_seeds_of_its_page(folder, card):
    score = card["scores"]["mIoU"]
    value, ends = f"{score['value']:.3f}", f"{score['low']:.3f} to {score['high']:.3f}"
    head, rule, line = results.table(folder).split("\n")
    assert head.count("|") == rule.count("|") == line.count("|")
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "synthetic shapes, 6",
        "`--config=configs/shapes.py`, seeds [0](docs/cards/shapes_seed_0.md), "
        "[1](docs/cards/shapes_seed_1.md)",
        f"mIoU {value}, {value}",
        f"{ends}, {ends}",
        "4 to 5 minutes each on 2 CPU cores",
    ]


def test_masks_that_were_scored_have_no_time(tmp_path, card):
    run = {"evaluated_by": "python -m unet_jax.main --mode=score --predictions=a --output=b"}
    scored = card | {"run": run}
    scored["sha256"] = digest(scored)
    (tmp_path / "card.json").write_text(write_card(scored))
    results.add(tmp_path / "card.json", "shapes_seed_7", tmp_path / "cards")
    line = results.table(tmp_path / "cards").split("\n")[-1]
    assert "`--mode=score --predictions=a`, seed [7](docs/cards/shapes_seed_7.md)" in line
    assert line.endswith(" |  |")


def test_a_gpu_is_named(tmp_path, card):
    devices = {"platform": "gpu", "kind": "H100", "count": 4}
    on_gpu = card | {"run": card["run"] | {"devices": devices, "minutes": 61.7}}
    on_gpu["sha256"] = digest(on_gpu)
    (tmp_path / "card.json").write_text(write_card(on_gpu))
    results.add(tmp_path / "card.json", "shapes_seed_0", tmp_path / "cards")
    assert results.table(tmp_path / "cards").endswith("| 62 minutes on 4 x H100 |")


def test_the_table_goes_between_its_marks():
    text = f"a\n{results.BEGIN}\nold\n{results.END}\nb"
    assert results.put_table(text, "new") == f"a\n{results.BEGIN}\n\nnew\n\n{results.END}\nb"


def test_a_card_that_is_wrong_is_not_added(tmp_path, card):
    file = tmp_path / "card.json"
    file.write_text(write_card(card | {"title": "another"}))
    with pytest.raises(UserError, match="sha256"):
        results.add(file, "shapes_seed_0", tmp_path)
    with pytest.raises(UserError, match="must be ROW_seed_N"):
        results.add(file, "shapes", tmp_path)


@pytest.fixture
def card():
    """A card of 20 images of two classes."""
    confusion = np.random.default_rng(0).integers(1, 99, (20, 2, 2))
    ids, names = [f"{i}" for i in range(20)], ("sky", "sea")
    counted = Counted(ids, (), {"overlap/confusion": confusion}, names, (), "mIoU")
    devices = {"platform": "cpu", "kind": "cpu", "count": 1}
    run = {"devices": devices, "cores": 2, "evaluated_by": "unet-jax --mode=eval"}
    return make_card(counted, title="test", data={"split": "test"}, run=run, rules=[])
