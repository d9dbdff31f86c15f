"""Pages of stacks in several splits: when that is a fault, and what mends it."""

import numpy as np
import pytest
from support.planted_images import PAGES, draw_stacks
from support.planting import blob, make, photo

from unet_jax.doctor.faults import find
from unet_jax.doctor.survey import survey

PATTERN = r"^(.*)/\d+$"


def validate(root, pages, stack="a"):
    (root / "val.txt").write_text("".join(f"{stack}/{page:03}\n" for page in pages))


def test_pages_beside_those_of_another_split_are_counted_and_named(tmp_path):
    draw_stacks(tmp_path, 1, 20)
    validate(tmp_path, (0, 7, 8, 9, 19))
    [finding] = find(survey(make(tmp_path, folder=PAGES)))
    assert (finding.fault, finding.level) == ("pages", "warning")
    assert finding.says.startswith("4 of the 5 pages for validation and test in 1 of 1 stacks")
    numbers = [file.removeprefix(f"{tmp_path}/a_image.npy/") for file in finding.files]
    assert numbers == ["000.npy", "007.npy", "009.npy", "019.npy"]
    assert not finding.is_config()


@pytest.mark.parametrize("pages", [range(16, 20), range(5, 9), range(4)])
def test_a_block_of_pages_is_no_fault(tmp_path, pages):
    draw_stacks(tmp_path, 1, 20)
    validate(tmp_path, pages)
    assert find(survey(make(tmp_path, folder=PAGES))) == []


def test_images_that_have_nothing_to_do_with_each_other_may_be_in_a_file(tmp_path):
    masks = [blob(seed) for seed in range(20)]
    images = [photo(seed, mask)[..., 0] for seed, mask in enumerate(masks)]
    np.save(tmp_path / "a_image.npy", np.stack(images))
    np.save(tmp_path / "a_mask.npy", np.uint8(masks))
    assert find(survey(make(tmp_path, folder=PAGES, folds=4))) == []


@pytest.mark.parametrize("name", ["", "train"])
def test_what_is_to_be_done_where_no_pattern_keeps_stacks_whole(tmp_path, name):
    draw_stacks(tmp_path, 3, 8)
    split = {}
    if name:  # a word that is taken out of the names in which groups are looked for
        for kind in ("image", "mask"):
            (tmp_path / f"a_{kind}.npy").rename(tmp_path / f"{name}_{kind}.npy")
    else:
        split = {"group_pattern": r"(.)$"}
    [finding] = find(survey(make(tmp_path, folder=PAGES, folds=3, split=split)))
    assert finding.fault == "pages"
    assert finding.mend.startswith("Choose groups that keep each stack whole")


def test_every_stack_that_folds_divide_is_counted(tmp_path):
    draw_stacks(tmp_path, 5)
    seen = survey(make(tmp_path, folder=PAGES, folds=5, fold=1))
    val = {look.id for look in seen.looks["val"]}
    divided = {name.split("/")[0] for name in val}
    [finding] = find(seen)
    count = len(val)  # all of which lie beside another page
    assert 1 < len(divided) < 6
    says = f"{count} of the {count} pages for validation and test in {len(divided)} of 5 stacks"
    assert finding.says.startswith(says)
