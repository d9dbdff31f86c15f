"""Cards: every number comes again from the counts, and whatever is changed is noticed."""

import base64
import json
import zlib

import numpy as np
import pytest

from unet_jax.cards.card import counted_of, digest, find_wrong, make_card, read_card, write_card
from unet_jax.cards.judge import DIGITS, SHOWN, Counted, judge
from unet_jax.cards.packing import pack, pack_names, unpack, unpack_names
from unet_jax.cards.pages import number, to_html, to_markdown
from unet_jax.errors import UserError
from unet_jax.metrics.base import SHARE
from unet_jax.metrics.overlap import Overlap
from unet_jax.metrics.resampling import bootstrap, by_image
from unet_jax.metrics.views import View

NAMES = ("sky", "road", "car")
VIEW = View("road_or_not", (0, 1, -1), (0, 1, 0), ("no road", "road"))


def draw(images=60, seed=0):
    """Draws confusion matrices of images, of which a third lacks the last class."""
    rng = np.random.default_rng(seed)
    confusion = rng.integers(0, 400, (images, 3, 3)) + 300 * np.eye(3, dtype=int)
    confusion[::3, 2] = 0
    return confusion


def counted(confusion, groups=(), headline="mIoU", views=()):
    ids = [f"image_{index}" for index in range(len(confusion))]
    counts = {"overlap/confusion": confusion}
    return Counted(ids, groups, counts, NAMES, views, headline)


def card_of(*given, **named):
    facts = {"title": "test", "data": {"split": "test"}, "run": {}, "rules": ["a rule"]}
    return make_card(counted(*given, **named), **facts)


def iou(confusion):
    """Computes the IoU of every class by a loop; None of an absent one."""
    found = []
    for k in range(len(confusion)):
        hit, truth, guess = confusion[k, k], 0, 0
        for j in range(len(confusion)):
            truth, guess = truth + confusion[k, j], guess + confusion[j, k]
        found.append(hit / (truth + guess - hit) if truth else None)
    return found


def test_scores_and_worst_images_are_those_of_a_loop():
    confusion = draw()
    found = judge(counted(confusion, views=[VIEW]))
    whole = iou(confusion.sum(axis=0))
    for name, want in zip(NAMES, whole, strict=True):
        assert found["scores"][f"IoU/{name}"]["value"] == round(want, DIGITS)
    assert found["scores"]["mIoU"]["value"] == round(sum(whole) / 3, DIGITS)
    seen = confusion.sum(axis=0)[:2]  # cars are left out of the truth
    merged = np.stack([seen[:, 0] + seen[:, 2], seen[:, 1]], axis=1)
    assert found["scores"]["road_or_not/IoU/road"]["value"] == round(iou(merged)[1], DIGITS)
    values = {}
    for index, one in enumerate(confusion):
        present = [x for x in iou(one) if x is not None]
        values[f"image_{index}"] = round(sum(present) / len(present), DIGITS)
    order = sorted(values, key=values.get)
    assert found["images"]["worst"] == [[name, values[name]] for name in order[:SHOWN]]
    middle = order[(len(order) - SHOWN) // 2 :][:SHOWN]
    assert found["images"]["median"] == [[name, values[name]] for name in middle]


def test_intervals_are_those_over_images_or_over_groups():
    confusion = draw()
    found = judge(counted(confusion))["scores"]
    metric = Overlap(NAMES)
    for name in ("mIoU", "IoU/car", "pixel_accuracy"):
        statistic = by_image(metric, name, {"confusion": confusion})
        [ends] = bootstrap([[statistic]], kind=SHARE).means
        got = found[name]["low"], found[name]["high"]
        assert got == pytest.approx(ends, abs=1e-6), name
        assert "held" not in found[name]
    assert "low" not in found["Dice/car"], "only main scores have an interval"
    groups = [f"patient {index % 12}" for index in range(60)]
    of_groups = np.stack([confusion[index::12].sum(axis=0) for index in range(12)])
    found = judge(counted(confusion, groups))["scores"]
    [ends] = bootstrap([[by_image(metric, "mIoU", {"confusion": of_groups})]], kind=SHARE).means
    assert (found["mIoU"]["low"], found["mIoU"]["high"]) == pytest.approx(ends, abs=1e-6)
    assert found["mIoU"]["value"] == judge(counted(confusion))["scores"]["mIoU"]["value"]
    assert 0.8 < found["mIoU"]["held"] < 1, "of 12 groups"


def test_scores_of_each_group_alone_are_those_of_a_loop():
    confusion = draw(40)
    confusion[:20, :, 2] = 0  # of three of the groups nothing is predicted as a car
    confusion[:10, 2] = 0  # and one has none
    groups = [f"patient {index // 10}" for index in range(40)]
    found = judge(counted(confusion, groups))["scores"]
    for k, name in ((1, "road"), (2, "car")):
        overlap, dice = [], []
        for start in range(0, 40, 10):
            one = confusion[start : start + 10].sum(axis=0)
            both, of_either = one[k, k], one[k].sum() + one[:, k].sum()
            if of_either:
                overlap.append(both / (of_either - both))
                dice.append(2 * both / of_either)
        assert len(dice) == (4 if name == "road" else 3)
        assert found[f"group_IoU/{name}"]["value"] == round(sum(overlap) / len(overlap), DIGITS)
        assert found[f"group_Dice/{name}"]["value"] == round(sum(dice) / len(dice), DIGITS)
        assert found[f"group_Dice/{name}"]["why"].endswith("it takes 10")
    assert "group_IoU/sky" not in found, "the background"
    mean = (found["group_IoU/road"]["value"] + found["group_IoU/car"]["value"]) / 2
    assert found["group_IoU"]["value"] == pytest.approx(mean, abs=2e-6)


def test_groups_of_classes_that_overlap_each_other():
    rng = np.random.default_rng(0)
    names = ("true_positive", "false_positive", "false_negative", "true_negative")
    counts = {f"binary_overlap/{name}": rng.integers(0, 50, (6, 3)) for name in names}
    groups = ["a", "b", "a", "b", "b", "a"]
    found = judge(counted(draw(6), groups)._replace(counts=counts))["scores"]
    dice = []
    for group in "ab":
        rows = [index for index in range(6) if groups[index] == group]
        hit, more, less, _ = (counts[f"binary_overlap/{n}"][rows, 0].sum() for n in names)
        dice.append(2 * hit / (2 * hit + more + less))
    assert found["group_Dice/sky"]["value"] == round(sum(dice) / 2, DIGITS)


def test_slices_of_one_volume_have_no_interval():
    found = judge(counted(draw(30), ["one stack"] * 30))["scores"]["mIoU"]
    assert found["why"] == "1 group of labelled images, it takes 10"
    assert found.keys() == {"value", "why"}


@pytest.mark.parametrize("seed", range(20))
def test_packed_numbers_come_back_and_others_can_read_them(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(0, 5, rng.integers(1, 4)))
    top = (2, 300, 70_000, 2**40)[seed % 4]
    for array in (rng.integers(0, top, shape), rng.normal(size=shape)):
        packed = json.loads(json.dumps(pack(array)))
        np.testing.assert_array_equal(unpack(packed), array)
        data = zlib.decompress(base64.b64decode(packed["data"]))
        plain = np.frombuffer(data, packed["type"]).reshape(packed["shape"])
        np.testing.assert_array_equal(plain, array)


def test_packed_names_come_back():
    names = ["a\nb", "ü", "", "train/x_1"]
    assert unpack_names(pack_names(names)) == tuple(names)
    for text, says in (("?", "unpacked"), (pack_names([])[:-4], "unpacked|end where")):
        with pytest.raises(ValueError, match=f"names that .*({says})"):
            unpack_names(text)
    other = base64.b64encode(zlib.compress(b"[1]")).decode()
    with pytest.raises(ValueError, match=r"names of which \[0\] is 1, not a text"):
        unpack_names(other)


@pytest.mark.parametrize(
    "changed",
    [{"shape": [5]}, {"type": "object"}, {"data": "eJw"}, {"data": "?"}, {"shape": [2**40]}],
)
def test_numbers_that_are_damaged_are_refused(changed):
    with pytest.raises(ValueError, match=r"numbers"):
        unpack(pack(np.arange(4)) | changed)


def numbers(card, where=()):
    """Yields the path of every number of a card's scores and images."""
    value = card
    for key in where:
        value = value[key]
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from numbers(card, (*where, key))
    elif isinstance(value, int | float):
        yield where


def test_a_printed_value_is_that_of_the_score_and_not_of_a_rounded_one():
    hit, wrong = 90735019, 9264981  # IoU 0.90735019, of which 0.907350 would become 0.9073
    confusion = np.zeros((1, 3, 3), int)
    confusion[0, 0] = hit, wrong, 0
    value = judge(counted(confusion))["scores"]["IoU/sky"]["value"]
    assert number(value) == f"{hit / (hit + wrong):.4f}" == "0.9074"


def test_a_changed_digit_is_named(tmp_path):
    card = card_of(draw(), views=[VIEW])
    file = tmp_path / "card.json"
    assert find_wrong(card, file) == []
    places = [("scores", *x) for x in numbers(card["scores"])]
    places += [("images", *x) for x in numbers(card["images"])]
    assert len(places) > 40
    for place in places[:: len(places) // 12]:
        other = json.loads(json.dumps(card))
        inner = other
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] += 1e-9
        (line,) = find_wrong(other, file)
        assert str(place[1]) in line
        assert "the counts give" in line
    for place, value in (("title", "val"), ("rules", ["no rule"]), ("run", {"minutes": 1})):
        assert "sha256" in find_wrong(card | {place: value}, file)[0]


def test_a_changed_count_is_named(tmp_path):
    confusion = draw()
    card, file = card_of(confusion), tmp_path / "card.json"
    for place in ((0, 0, 0), (59, 2, 1), (30, 1, 1)):
        other = confusion.copy()
        other[place] += 1
        counts = card["counts"] | {"arrays": {"overlap/confusion": pack(other)}}
        forged = card | {"counts": counts}
        forged["sha256"] = digest(forged)
        assert find_wrong(forged, file)


def test_a_card_comes_back_from_its_file(tmp_path):
    card, file = card_of(draw()), tmp_path / "card.json"
    file.write_text(write_card(card))
    assert read_card(file) == card
    found = counted_of(card, file)
    np.testing.assert_array_equal(found.counts["overlap/confusion"], draw())
    assert file.stat().st_size < 6000


def test_large_counts_come_as_their_sum():
    rng = np.random.default_rng(0)
    histogram = rng.integers(0, 9, (12, 3, 2, 4096))
    given = counted(draw(12))._replace(
        counts={"overlap/confusion": draw(12), "curves/histogram": histogram}
    )
    facts = {"title": "", "data": {}, "run": {}, "rules": []}
    card = make_card(given, **facts)
    assert card["counts"]["arrays"]["curves/histogram"]["shape"][0] == 1
    of_all = judge(given)["scores"]["AUROC/car"]
    assert card["scores"]["AUROC/car"] == {"value": of_all["value"]}
    assert find_wrong(card, "card.json") == []
    by_image = make_card(given._replace(headline="AUROC/car"), **facts)
    assert by_image["counts"]["arrays"]["curves/histogram"]["shape"][0] == 12
    assert by_image["scores"]["AUROC/car"]["low"] < by_image["scores"]["AUROC/car"]["high"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("none.json", None, "is not there; give the JSON file"),
        ("card.md", "# test", "must be the JSON file of a card, card.json"),
        ("card.json", "{}", "is not a card"),
        ("card.json", '{"card": 2}', "is not a card"),
    ],
)
def test_what_is_no_card_is_named(tmp_path, name, text, says):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says):
        read_card(tmp_path / name)


def test_a_card_of_a_later_version_and_of_counts_that_do_not_fit(tmp_path):
    card, file = card_of(draw()), tmp_path / "card.json"
    file.write_text(write_card(card | {"card": 2}))
    with pytest.raises(UserError, match="of version 2"):
        read_card(file)
    fewer = {**card["counts"], "ids": pack_names(["a"] * 59)}
    with pytest.raises(UserError, match="59 names and 0 groups of 60 images"):
        counted_of(card | {"counts": fewer}, file)
    groups = {**card["counts"], "groups": pack_names(["a"])}
    with pytest.raises(UserError, match="60 names and 1 groups of 60 images"):
        counted_of(card | {"counts": groups}, file)
    arrays = {**card["counts"], "arrays": {"overlap/confusion": pack(draw(59))}}
    with pytest.raises(UserError, match="counts of overlap of 59 images, and 60 names"):
        counted_of(card | {"counts": arrays}, file)
    other = {**card["data"], "class_names": ["a", "b"]}
    with pytest.raises(UserError, match="another number of classes than 2"):
        counted_of(card | {"data": other}, file)


def test_pages_show_what_the_card_says_and_escape_it():
    card = card_of(draw(12))
    card["title"] = "<b>& a | b"
    text, page = to_markdown(card, "card.json"), to_html(card, "card.json", [])
    value, low = (f"{card['scores']['mIoU'][name]:.4f}" for name in ("value", "low"))
    for written in (text, page):
        assert value in written
        assert low in written
        assert "hold the truth" in written
        assert "--mode=verify --card=card.json" in written
        assert card["images"]["worst"][0][0] in written
    assert "&lt;b&gt;&amp; a | b" in page
    assert "<b>& a" not in page
