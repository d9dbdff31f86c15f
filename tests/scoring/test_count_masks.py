"""Masks in files are counted as loops over their pixels count them; bad ones end in one line."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.masks import draw

from unet_jax.defaults import complete, page
from unet_jax.errors import UserError
from unet_jax.scoring.count import count_masks, near_border
from unet_jax.scoring.definitions import find_scopes
from unet_jax.scoring.meaning import find_meaning, read_meaning
from unet_jax.scoring.pairs import find_pairs

NAMES = ("a", "b", "c")
SCOPES = ("whole", "void", "near", "field_of_view")
SIZES = {"one": (1, 1), "sub/odd": (13, 7), "wide": (5, 21), "void": (4, 6)}


def write(file, mask):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npy":
        np.save(file, mask)
    elif file.suffix == ".tif":
        tifffile.imwrite(file, mask)
    else:
        Image.fromarray(mask).save(file)


def make_config(names=NAMES, kind="exclusive", regions=(), **folder):
    task = {"kind": kind, "regions": regions}
    data = {"source": "folder", "folder": {"class_names": names, **folder}}
    return complete(page(data=data, task=task))


@pytest.fixture
def masks(tmp_path):
    """Writes masks in several formats; returns them by id, 255 for void, with fields of view."""
    rng, found = np.random.default_rng(0), {}
    for name, size in SIZES.items():
        label, guess = (draw(rng, size, 3).astype(np.uint8) for _ in range(2))
        label[rng.random(size) < 0.2] = 255
        if name == "void":
            label[:] = 255
        guess[(label == 255) & (rng.random(size) < 0.3)] = 255  # void, copied
        field = rng.random(size) < 0.6
        write(tmp_path / "truth" / f"{name}.png", label)
        write(tmp_path / "guess" / f"{name}{'.npy' if name == 'wide' else '.tif'}", guess)
        write(tmp_path / "field" / f"{name}.png", field.astype(np.uint8) * 255)
        write(tmp_path / "guess" / f"{name}_overlay.png", np.zeros((3, 3, 3), np.uint8))
        found[name] = label, guess, field
    return dict(sorted(found.items()))


def pairs_of(folder, **how):
    names = (str(folder / name) for name in ("guess", "truth", "field"))
    return find_pairs(*names, **how)


def is_near(label, place, width):
    rows, columns = (slice(max(0, i - width), i + width + 1) for i in place)
    return len(set(label[rows, columns].ravel().tolist())) > 1


@pytest.mark.parametrize("width", [1, 3])
def test_masks_are_counted_pixel_by_pixel(masks, tmp_path, width):
    pairs = pairs_of(tmp_path)
    meaning = read_meaning(make_config(ignore_values=(255,)))
    counted = count_masks(pairs, meaning, width=width, workers=2)
    assert counted.ids == tuple(masks)
    counts = counted.counts
    for n, (label, guess, field) in enumerate(masks.values()):
        confusion = np.zeros((3, 3), int)
        want = {
            scope: np.zeros((3, 3), int) for scope in ("whole", "void", "near", "field_of_view")
        }
        pixels = dict.fromkeys(want, 0)
        for place in np.ndindex(label.shape):
            true, own = int(label[place]), int(guess[place])
            scopes = ["void"] if true == 255 else ["whole"]
            scopes += ["near"] if true != 255 and is_near(label, place, width) else []
            scopes += ["field_of_view"] if true != 255 and field[place] else []
            for scope in scopes:
                pixels[scope] += 1
                if own != 255:
                    want[scope][2, own] += 1
                if true != 255:
                    want[scope][1, true] += 1
                    want[scope][0, true] += true == own
            if true != 255:
                confusion[true, own] += 1
        np.testing.assert_array_equal(counts["overlap/confusion"][n], confusion)
        for scope, (both, true, own) in want.items():
            np.testing.assert_array_equal(counts[f"{scope}/both"][n], both)
            np.testing.assert_array_equal(counts[f"{scope}/true"][n], true)
            np.testing.assert_array_equal(counts[f"{scope}/predicted"][n], own)
            assert counts[f"{scope}/pixels"][n] == pixels[scope]
    assert all(array.dtype == np.int64 for array in counts.values())
    scopes = find_scopes(counted, meaning.task, (), width)
    assert list(scopes) == [
        *("whole", "void is wrong", "near borders", "off borders", "field of view"),
    ]
    assert scopes["void is wrong"].pixels == sum(label.size for label, *_ in masks.values())
    whole, void = scopes["whole"].sums, scopes["void is wrong"].sums
    for name in ("both", "true", "predicted"):
        near, off = (getattr(scopes[key].sums, name) for key in ("near borders", "off borders"))
        np.testing.assert_array_equal(near + off, getattr(whole, name))
        more = counts["void/predicted"] if name == "predicted" else 0
        np.testing.assert_array_equal(getattr(void, name), getattr(whole, name) + more)
    assert counts["void/predicted"].any()


def test_borders_of_volumes_and_of_classes_that_overlap():
    rng = np.random.default_rng(1)
    label = draw(rng, (4, 5, 6), 3).astype(np.uint8)
    found = near_border(label, 1, 3)
    for place in np.ndindex(label.shape):
        window = tuple(slice(max(0, i - 1), i + 2) for i in place)
        assert found[place] == (len(np.unique(label[window])) > 1)
    masks = np.zeros((7, 8, 2), np.uint8)
    masks[2:4, 2:4, 0] = masks[5:, 6:, 1] = 1
    each = [near_border(masks[..., k], 1, 2) for k in (0, 1)]
    np.testing.assert_array_equal(near_border(masks, 1, 2), each[0] | each[1])
    assert each[0][1:5, 1:5].all()
    assert not each[0][5:].any()


def test_the_three_ways_to_say_what_masks_hold(tmp_path):
    label = np.array([[0, 0, 1], [1, 1, 0]], np.uint8)
    guess = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    config = make_config(("a", "b"), label_map=((7, 1), (9, 0)))
    write(tmp_path / "truth" / "x.png", np.where(label, 7, 9).astype(np.uint8))
    write(tmp_path / "labels" / "x.png", np.where(guess, 7, 9).astype(np.uint8))
    write(tmp_path / "ids" / "x.png", guess)
    with pytest.raises(UserError, match=r"hold the values \[7, 9\], which are .*=ids.*=labels"):
        read_meaning(config)
    for what in ("ids", "labels"):
        pairs = find_pairs(str(tmp_path / what), str(tmp_path / "truth"))
        counted = count_masks(pairs, read_meaning(config, what))
        np.testing.assert_array_equal(counted.counts["overlap/confusion"], [[[2, 1], [1, 2]]])
        other = read_meaning(config, "labels" if what == "ids" else "ids")
        with pytest.raises(UserError, match=r"x\.png holds the values .* say --predictions_are"):
            count_masks(pairs, other)
    pairs = find_pairs(str(tmp_path / "ids"), str(tmp_path / "labels"))
    assert "0 to 9" in find_meaning(pairs).says[0]


def test_colours_of_true_masks(tmp_path):
    red, black = (255, 0, 0), (0, 0, 0)
    label = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
    write(tmp_path / "truth" / "x.png", np.array([black, red], np.uint8)[label])
    write(tmp_path / "guess" / "x.png", 1 - label)
    config = make_config(("a", "b"), label_map=((red, 1), (black, 0)))
    with pytest.raises(UserError, match=r"true masks hold colours, .* class ids 0 to 1, .*=labels"):
        read_meaning(config)
    pairs = find_pairs(str(tmp_path / "guess"), str(tmp_path / "truth"))
    counted = count_masks(pairs, read_meaning(config, "ids"))
    np.testing.assert_array_equal(counted.counts["overlap/confusion"], [[[0, 3], [3, 0]]])


def test_classes_that_overlap_and_regions(tmp_path):
    rng = np.random.default_rng(2)
    sides = {"x": (3, 5), "y": (6, 2)}
    true, own = (
        {n: rng.integers(0, 2, (*s, 2)).astype(np.uint8) for n, s in sides.items()}
        for _ in range(2)
    )
    for name in sides:
        for k, layer in enumerate(("p", "q_p")):
            write(tmp_path / "truth" / f"{name}_{layer}.png", true[name][..., k])
            write(tmp_path / "guess" / f"{name}_{layer}.png", own[name][..., k] * 255)
    meaning = read_meaning(make_config(("p", "q_p"), "multilabel", by_class=True))
    folders = str(tmp_path / "guess"), str(tmp_path / "truth")
    counted = count_masks(find_pairs(*folders, layers=meaning.layers), meaning)
    assert counted.ids == ("x", "y")
    for n, name in enumerate(sides):
        for k in (0, 1):
            t, p = true[name][..., k], own[name][..., k]
            want = [(t & p).sum(), (p & ~t & 1).sum(), (t & ~p & 1).sum(), (1 - (t | p)).sum()]
            kinds = "true_positive", "false_positive", "false_negative", "true_negative"
            assert [counted.counts[f"binary_overlap/{kind}"][n, k] for kind in kinds] == want
    ids, guess = rng.integers(0, 3, (2, 5, 4)).astype(np.uint8)
    write(tmp_path / "regions" / "z.png", ids)
    write(tmp_path / "regions_guess" / "z.png", guess)
    regions = (("all", (1, 2), 1), ("core", (2,), 2))
    meaning = read_meaning(make_config(kind="regions", regions=regions))
    counted = count_masks(
        find_pairs(str(tmp_path / "regions_guess"), str(tmp_path / "regions")), meaning
    )
    hit = [((ids > 0) & (guess > 0)).sum(), ((ids == 2) & (guess == 2)).sum()]
    assert counted.counts["binary_overlap/true_positive"].tolist() == [hit]
    assert counted.counts["whole/true"].tolist() == [[(ids > 0).sum(), (ids == 2).sum()]]


def test_objects_that_touch_are_told_apart_by_their_numbers(tmp_path):
    write(tmp_path / "truth" / "x.png", np.array([[1, 1, 2, 2, 0, 3]], np.uint16))
    write(tmp_path / "guess" / "x.png", np.array([[1, 1, 1, 1, 0, 1]], np.uint8))
    folders = str(tmp_path / "guess"), str(tmp_path / "truth")
    values = ((0, 0), ("1-300", 1))
    for instances, objects in ((True, 3), (False, 2)):
        config = make_config(("a", "b"), label_map=values, instances=instances)
        chosen = {"objects": {"connectivity": "sides", "classes": ()}}
        meaning = read_meaning(config, "ids")
        counts = count_masks(find_pairs(*folders), meaning, chosen=chosen).counts
        assert counts["objects/true"].tolist() == [[0, objects]]
        assert counts["objects/guessed"].tolist() == [[0, 2]]


def test_soft_edges_of_true_masks_are_read_as_in_training(tmp_path):
    write(tmp_path / "truth" / "x.png", np.array([[3, 250, 120]], np.uint8))
    write(tmp_path / "guess" / "x.png", np.array([[0, 1, 1]], np.uint8))
    config = make_config(("a", "b"), label_map=((0, 0), (255, 1)), nearest=True)
    pairs = find_pairs(str(tmp_path / "guess"), str(tmp_path / "truth"))
    counted = count_masks(pairs, read_meaning(config, "ids"))
    np.testing.assert_array_equal(counted.counts["overlap/confusion"], [[[1, 1], [0, 1]]])
    config = make_config(("a", "b"), nearest=True)  # whose values are those of the classes
    counted = count_masks(pairs, read_meaning(config))
    np.testing.assert_array_equal(counted.counts["overlap/confusion"], [[[0, 0], [1, 2]]])


def test_configs_that_do_not_say_what_masks_mean():
    with pytest.raises(UserError, match=r"class_names=\(\) names no class: name them, or give"):
        read_meaning(make_config(()))
    for kind, by_class in (("multilabel", False), ("exclusive", True)):
        with pytest.raises(UserError, match=r"config\.task\.kind=.* does not fit the data"):
            read_meaning(make_config(kind=kind, by_class=by_class))


def test_names_by_pattern_and_by_suffix(tmp_path):
    mask = np.zeros((2, 2), np.uint8)
    for n in (1, 2):
        write(tmp_path / "manual" / f"{n}_manual1.gif", mask)
        write(tmp_path / "out" / f"{n}_test.png", mask)
        write(tmp_path / "fov" / f"{n}_test_mask.gif", mask + 1)
    patterns = "out/{name}_test.png", "manual/{name}_manual1.gif", "fov/{name}_test_mask.gif"
    pairs = find_pairs(*(str(tmp_path / pattern) for pattern in patterns))
    assert [pair.id for pair in pairs] == ["1", "2"]
    assert pairs[1].field == tmp_path / "fov" / "2_test_mask.gif"
    for n in (1, 2):
        write(tmp_path / "plain" / f"{n}.png", mask)
    folders = str(tmp_path / "plain"), str(tmp_path / "manual")
    pairs = find_pairs(*folders, suffix="_manual1")
    assert [pair.id for pair in pairs] == ["1", "2"]
    with pytest.raises(UserError, match=r"none of the 2 files has .*mask_suffix='_other'"):
        find_pairs(*folders, suffix="_other")
    write(tmp_path / "plain" / "1_manual1.png", mask)
    with pytest.raises(UserError, match=r"1\.png and .*1_manual1\.png have the same name but for"):
        find_pairs(*folders, suffix="_manual1")
    write(tmp_path / "out" / "3_test.png", mask)
    with pytest.raises(UserError, match=r"1 of 3 masks of --truth .* in --field_of_view: 3\."):
        find_pairs(str(tmp_path / "plain3"), *_third(tmp_path, mask, patterns))
    (tmp_path / "out" / "3_test.tif").write_bytes(b"")
    with pytest.raises(UserError, match=r"matches .*3_test\.(png|tif) and .* for '3'"):
        find_pairs(str(tmp_path / "out/{name}_test.*"), str(tmp_path / patterns[1]))


def _third(folder, mask, patterns):
    """Gives all but the fields of view a third mask."""
    write(folder / "manual" / "3_manual1.gif", mask)
    for n in (1, 2, 3):
        write(folder / "plain3" / f"{n}.png", mask)
    return str(folder / patterns[1]), str(folder / patterns[2])


def test_masks_of_classes_that_are_not_all_there(tmp_path):
    for name in ("x_p", "x_q_p"):
        write(tmp_path / "truth" / f"{name}.png", mask(0))
    write(tmp_path / "guess" / "x_p.png", mask(0))
    folders = str(tmp_path / "guess"), str(tmp_path / "truth")
    with pytest.raises(UserError, match=r"--predictions: 'x' has no mask of q_p, beside .*x_p"):
        find_pairs(*folders, layers=("p", "q_p"))
    with pytest.raises(UserError, match=r"--truth: .*x_p\.png is of no class; .*, of q_p"):
        find_pairs(*folders, layers=("q_p",))


def mask(*values):
    return np.array([values], np.uint8)


BAD = [
    ({}, {"x": mask(0)}, "guess is not a folder; .* --predictions"),
    ({"x": mask(0)}, {"x": mask(0), "y": mask(1)}, "1 of 2 masks of --truth .* --predictions: y"),
    ({"x": mask(0), "y": mask(1)}, {"x": mask(0)}, "1 of 2 masks of --predictions .* --truth: y"),
    ({"x": mask(0, 1)}, {"x": mask(0)}, r"x\.png is 1x2 and .*x\.png is 1x1; .* none is resized"),
    ({"x": mask(3)}, {"x": mask(0)}, r"guess/x\.png holds the values \[3\] at 1 pixels"),
    ({"x": mask(255)}, {"x": mask(0)}, r"guess/x\.png holds the values \[255\] at 1 pixels"),
    ({"x": mask(0)}, {"x": mask(9)}, r"truth/x\.png holds the values \[9\], which are no class"),
]


@pytest.mark.parametrize(("guess", "truth", "says"), BAD)
def test_what_does_not_fit_is_one_line(tmp_path, guess, truth, says):
    for folder, found in (("guess", guess), ("truth", truth)):
        for name, array in found.items():
            write(tmp_path / folder / f"{name}.png", array)
    meaning = read_meaning(make_config(ignore_values=(255,)))
    with pytest.raises(UserError, match=says):
        count_masks(find_pairs(str(tmp_path / "guess"), str(tmp_path / "truth")), meaning)


def test_files_that_cannot_be_told_apart_or_read(tmp_path):
    truth, guess = tmp_path / "truth", tmp_path / "guess"
    write(truth / "x.png", mask(0, 1))
    for same in (str(truth), str(truth / "{name}.png")):
        with pytest.raises(UserError, match=r"lead to one file, .*be their own truth"):
            find_pairs(same, str(truth))
    guess.mkdir()
    with pytest.raises(UserError, match=r"holds no images but no files.* --predictions"):
        find_pairs(str(guess), str(truth))
    (guess / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"guess/x\.png"):
        count_masks(find_pairs(str(guess), str(truth)), read_meaning(make_config()))
    write(guess / "x.npy", mask(0, 1))
    with pytest.raises(UserError, match="have the same name"):
        find_pairs(str(guess), str(truth))
    (guess / "x.png").unlink()
    write(tmp_path / "field" / "x.png", mask(0, 255, 255))
    pairs = find_pairs(str(guess), str(truth), str(tmp_path / "field"))
    with pytest.raises(UserError, match=r"field/x\.png is 1x3 .* Change --field_of_view"):
        count_masks(pairs, read_meaning(make_config()))
    with pytest.raises(UserError, match="no placeholder"):
        find_pairs(str(guess / "*.npy"), str(truth))
    with pytest.raises(UserError, match="matches no file"):
        find_pairs(str(guess / "{name}.tif"), str(truth))


def test_classes_are_found_in_the_values(tmp_path):
    truth, guess = str(tmp_path / "truth"), str(tmp_path / "guess")
    write(tmp_path / "truth" / "x.png", mask(0, 255, 2, 0))
    write(tmp_path / "guess" / "x.png", mask(0, 1, 4, 0))
    meaning = find_meaning(find_pairs(guess, truth))
    assert meaning.class_names == ("0", "1", "2", "3", "4")
    assert meaning.says == (
        "classes: 0 to 4, the values in the masks, and 255 of true masks is void "
        "(no config says more)",
    )
    counted = count_masks(find_pairs(guess, truth), meaning)
    assert counted.counts["overlap/confusion"].sum() == 3
    write(tmp_path / "truth" / "x.png", mask(0, 255, 255, 0))
    with pytest.raises(UserError, match=r"\[0, 255\] alone, .* 255 is void"):
        find_meaning(find_pairs(guess, truth))
    write(tmp_path / "truth" / "x.png", mask(0, 1, 254, 0))
    with pytest.raises(UserError, match=r"holds \[254\], which are no class ids"):
        find_meaning(find_pairs(guess, truth))
