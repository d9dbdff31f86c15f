import numpy as np
import pytest
from PIL import Image

from unet_jax.data.sources import Loading, make_loading, open_data
from unet_jax.data.splitting import split_off
from unet_jax.errors import UserError

GROUPS = ["a"] * 11 + ["b"] * 3 + ["c"] * 30 + ["d"] * 1 + ["e"] * 17
IDS = [f"{group}_{i}" for i, group in enumerate(GROUPS)]
FRACTIONS = (0.05, 0.1, 0.25, 0.5, 0.9, 0.999)


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_split_off_takes_the_share_of_all_and_of_each_group(fraction, seed):
    kept, off = split_off(IDS, GROUPS, fraction, seed)
    assert sorted(kept + off) == list(range(len(IDS)))
    assert kept == sorted(kept)
    assert off == sorted(off)
    assert len(off) == round(fraction * len(IDS))
    for group in set(GROUPS):
        wanted = fraction * GROUPS.count(group)
        assert abs(sum(GROUPS[i] == group for i in off) - wanted) <= 1


def test_split_off_depends_on_names_and_seed_and_not_on_the_order():
    names = {IDS[i] for i in split_off(IDS, GROUPS, 0.3, 0)[1]}
    assert {IDS[i] for i in split_off(IDS, GROUPS, 0.3, 1)[1]} != names
    rng = np.random.default_rng(0)
    for _ in range(5):
        order = rng.permutation(len(IDS))
        ids, groups = [IDS[i] for i in order], [GROUPS[i] for i in order]
        assert {ids[i] for i in split_off(ids, groups, 0.3, 0)[1]} == names


def test_split_off_is_not_the_first_ones():
    names = [f"{i:03}" for i in range(100)]
    off = split_off(names, [""] * 100, 0.2, 0)[1]
    assert min(off) < 20 < 80 < max(off)


@pytest.mark.parametrize("count", [0, 1])
def test_split_off_of_almost_nothing(count):
    assert split_off(["a"] * count, ["g"] * count, 0.1, 0) == (list(range(count)), [])


def test_loading():
    assert make_loading((4, 6), "crop", 3) == Loading((4, 6), "crop", 3)
    assert make_loading((5,), "resize", 1) == Loading((5, 5), "resize", 1)
    assert make_loading((5,), "crop", 1, 2) == Loading((5, 5), "crop", 1, 2)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"image_size": ()}, r"image_size=\(\) must be \(height, width\)"),
        ({"image_size": (1, 2, 3, 4)}, r"image_size=\(1, 2, 3, 4\)"),
        ({"image_size": (0, 5)}, r"image_size=\(0, 5\)"),
        ({"image_size": (4.0, 5)}, r"image_size=\(4\.0, 5\)"),
        ({"fit": "pad"}, "fit='pad' is not known; allowed are resize, crop"),
        ({"workers": 0}, "workers=0 must be 1 or more"),
        ({"val_fraction": 0.0}, r"val_fraction=0\.0 must be more than 0 and less than 1"),
        ({"val_fraction": 1.0}, r"val_fraction=1\.0 must be more than 0 and less than 1"),
        ({"split_seed": -1}, "split_seed=-1 must be 0 or more"),
        ({"source": "web"}, "source='web' is not known; allowed are folder, pets, tfds, synthetic"),
        ({"synthetic": {"trains": 3}}, "synthetic.trains is not a config key; allowed are train"),
        ({"synthetic": {"train": "3"}}, "synthetic.train='3' is of type str"),
        ({"source": "folder", "folder": {"path": "x"}}, "folder.path is not a config key"),
        ({"source": "tfds", "tfds": {"checksums": 1}}, "tfds.checksums is not a config key"),
    ],
)
def test_data_values_that_do_not_fit(given, says):
    with pytest.raises(UserError, match=rf"^config\.data\.{says}"):
        open_data(**given)


def test_the_section_of_the_source_alone_counts():
    synthetic = {"train": 5, "val": 2, "test": 3, "size": 8}
    dataset, loading = open_data(image_size=(7,), synthetic=synthetic, folder={"any": 1})
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 5,
        "val": 2,
        "test": 3,
    }
    assert loading == Loading((7, 7), "resize", 4)


def test_a_folder_gets_path_share_and_seed(tmp_path):
    for name in map(str, range(8)):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("L", (2, 2)).save(tmp_path / folder / f"{name}.png")

    def val(**given):
        section = {"class_names": ("x", "y")}
        data = {"source": "folder", "path": str(tmp_path), "folder": section} | given
        return open_data(**data)[0].splits["val"].indices

    assert len(val(val_fraction=0.25)) == 2
    assert len(val(val_fraction=0.5)) == 4
    assert val(val_fraction=0.5, split_seed=1) != val(val_fraction=0.5)


def test_an_empty_split_is_an_error(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / folder / "a.png")
    data = {"source": "folder", "path": str(tmp_path), "folder": {"class_names": ("x", "y")}}
    with pytest.raises(UserError, match=rf"^the val split of .*'{tmp_path}' is empty"):
        open_data(**data)
    (tmp_path / "val.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"^the train split of .* is empty"):
        open_data(**data)
