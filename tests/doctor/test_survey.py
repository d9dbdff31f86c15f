import json
import pickle

import numpy as np
import pytest
from PIL import Image
from support.planting import COUNT, NAMES, SIZE, blob, change, draw, lists, make, photo, read, save

from unet_jax.defaults import page
from unet_jax.doctor.faults import find
from unet_jax.doctor.survey import Survey, survey


def names(survey: Survey):
    return [one.fault for one in find(survey)]


def test_a_look_tells_what_an_image_and_its_mask_are(tmp_path):
    draw(tmp_path)
    seen = survey(make(tmp_path))
    assert {split: len(looks) for split, looks in seen.looks.items()} == {"train": 12, "val": 4}
    assert (seen.class_names, seen.by_class, seen.stride, seen.levels) == (NAMES, False, 4, 3)
    assert seen.split_by.startswith("val 0.25")
    for _, look in seen.all():
        image, mask = (read(tmp_path / kind / f"{look.id}.png") for kind in ("images", "masks"))
        assert look.files == tuple(
            str(tmp_path / kind / f"{look.id}.png") for kind in ("images", "masks")
        )
        assert look.shape == look.mask_shape == SIZE
        assert (look.low, look.high) == (image.min(), image.max())
        assert look.classes.tolist() == [(mask == 0).sum(), (mask == 1).sum(), 0]
        assert look.masks[0].counts == {0: (mask == 0).sum(), 1: (mask == 1).sum()}
        assert (look.failed, look.unknown, look.orientation) == ("", 0, 1)
        rows, columns = np.nonzero(mask)
        assert [1, max(np.ptp(rows), np.ptp(columns)) + 1] in look.objects[:, :2].tolist()


def test_a_look_is_small(tmp_path):
    draw(tmp_path, count=100)
    seen = survey(make(tmp_path))
    far = [look for _, look in seen.all() if look.objects is None]
    assert far
    assert len(pickle.dumps(far)) / len(far) < 2048


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads_sees_the_same(tmp_path, threads):
    draw(tmp_path)
    (tmp_path / "images" / "03.png").write_bytes(b"")
    one, other = survey(make(tmp_path)), survey(make(tmp_path), threads)
    assert pickle.dumps(one.looks) == pickle.dumps(other.looks)
    assert find(one) == find(other)


def test_several_faults_are_told_at_once_errors_first(tmp_path):
    draw(tmp_path)
    (tmp_path / "images" / "03.png").write_bytes(b"")
    change(tmp_path / "images", lambda image: np.full_like(image, 90), {5})
    change(tmp_path / "masks", lambda mask: mask[:-8], {4})
    (tmp_path / "masks" / "09.png").unlink()
    found = find(survey(make(tmp_path)))
    assert [one.fault for one in found] == ["pairs", "unreadable", "sizes", "constant"]
    assert found[1].mend == "config.data.folder.exclude=('images/09.png', '03')"
    assert found[1].files == (str(tmp_path / "images" / "03.png"),)


def test_pixels_that_do_not_count_are_no_values(tmp_path):
    for seed in range(COUNT):
        mask = np.uint8(blob(seed))
        mask[:, :6] = 77
        save(tmp_path / "images" / f"{seed}.png", photo(seed, blob(seed)))
        save(tmp_path / "masks" / f"{seed}.png", mask)
    weight = np.full(SIZE, 255, np.uint8)
    weight[:, :6] = 0
    save(tmp_path / "field.png", weight)
    patterns = {"images": "images/{n}.png", "masks": "masks/{n}.png"}
    assert names(survey(make(tmp_path, folder=patterns))) == ["values"]
    seen = survey(make(tmp_path, folder={**patterns, "weight": "field.png"}))
    assert find(seen) == []
    assert {int(look.classes[-1]) for _, look in seen.all()} == {6 * SIZE[0]}


def test_masks_of_classes_that_overlap(tmp_path):
    for seed in range(COUNT):
        disk, other = blob(seed), blob(seed + 50)
        save(tmp_path / "images" / f"{seed}.png", photo(seed, disk))
        save(tmp_path / "masks" / f"{seed}_disk.png", np.uint8(disk) * 255)
        save(tmp_path / "masks" / f"{seed}_spot.png", np.uint8(other) * 255)
    config = make(tmp_path, folder={"class_names": ("disk", "spot"), "by_class": True})
    seen = survey(config)
    assert find(seen) == []
    for _, look in seen.all():
        seed = int(look.id)
        assert look.classes.tolist() == [blob(seed).sum(), blob(seed + 50).sum(), 0]
        assert {*look.objects[:, 0].tolist()} == {0, 1}
    save(tmp_path / "masks" / "3_disk.png", np.zeros(SIZE, np.uint8))
    save(tmp_path / "masks" / "3_spot.png", np.zeros(SIZE, np.uint8))
    [finding] = find(survey(config))
    assert (finding.fault, finding.mend) == ("one_class", "config.data.folder.exclude=('3',)")


def test_volumes(tmp_path):
    for seed in range(COUNT):
        rng = np.random.default_rng(seed)
        mask = np.zeros((12, 24, 20), np.uint8)
        mask[3:9, 4:16, 5 + seed % 4 : 16] = 1
        image = 60_000 * rng.random() + rng.integers(0, 5000, mask.shape)
        for kind, array in (("images", image.astype(np.uint16)), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            np.save(tmp_path / kind / f"{seed}.npy", array)
    config = make(tmp_path, image_size=(12, 24, 20))
    config.model.dimensions = 3
    seen = survey(config)
    assert find(seen) == []
    assert all(look.alignment is None and len(look.objects) == 2 for _, look in seen.all())


def test_polygons(tmp_path):
    images, annotations = [], []
    for seed in range(COUNT):
        save(tmp_path / "train" / f"{seed}.png", photo(seed, blob(seed)))
        images.append({"id": seed, "file_name": f"{seed}.png", "height": 48, "width": 64})
        box = [8 + seed, 8, 40 + seed, 8, 40 + seed, 40, 8 + seed, 40]
        one = {"id": seed, "image_id": seed, "category_id": 1, "iscrowd": 0, "segmentation": [box]}
        annotations.append(one | {"area": 1024, "bbox": [8 + seed, 8, 32, 32]})
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "box"}]
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    seen = survey(make(tmp_path, folder={"class_names": ()}))
    assert find(seen) == []
    assert seen.class_names == ("background", "box")
    assert {int(look.classes[1]) for _, look in seen.all()} == {1024}


def test_shapes_that_are_drawn_are_without_faults():
    sizes = {"train": 40, "val": 10, "test": 10}
    seen = survey(page(data={"synthetic": sizes}, model={"features": (4, 8, 8)}))
    assert find(seen) == []
    assert [len(looks) for looks in seen.looks.values()] == [40, 10, 10]


def test_a_folder_that_is_not_there(tmp_path):
    config = make(tmp_path / "nowhere")
    seen = survey(config)
    [finding] = find(seen)
    assert (finding.fault, finding.level, seen.looks) == ("opening", "error", {})
    assert "nowhere" in finding.says


def test_a_folder_whose_classes_nobody_named_is_looked_at(tmp_path):
    draw(tmp_path, label=lambda _, mask: np.uint8(mask) * 255)
    seen = survey(make(tmp_path, folder={"class_names": ()}))
    assert names(seen) == ["unnamed"]
    assert seen.class_names == ()
    assert {value for _, look in seen.all() for value in look.masks[0].counts} == {0, 255}


def test_lists_and_groups_that_do_not_fit_hide_no_other_fault(tmp_path):
    draw(tmp_path)
    lists(tmp_path, (3, 4, 5, 6))
    change(tmp_path / "images", lambda image: np.full_like(image, 90), {8})
    found = find(survey(make(tmp_path, split={"group_pattern": "^(.)"})))
    assert [one.fault for one in found] == ["opening", "constant"]
    assert "the group '0'" in found[0].says
    (tmp_path / "val.txt").write_text("04\nnobody\n05\n")
    found = find(survey(make(tmp_path)))
    assert [one.fault for one in found] == ["pairs", "constant"]
    assert found[0].mend == "config.data.folder.exclude=('nobody',)"
    (tmp_path / "val.txt").write_text("05\n04\n04\n")
    found = find(survey(make(tmp_path, folder={"lists": "."})))
    assert [one.fault for one in found] == ["opening"]
    assert "names 04 more than once" in found[0].says


def test_numbers_that_do_not_fit_are_for_training_to_tell(tmp_path):
    draw(tmp_path)
    config = make(tmp_path, fit="squash")
    config.model.features = ()
    assert names(survey(config)) == ["opening"]


def test_images_turned_by_exif_with_masks_turned_too(tmp_path):
    draw(tmp_path)
    exif = Image.Exif()
    exif[274] = 8
    for kind in ("images", "masks"):
        save(tmp_path / kind / "02.png", read(tmp_path / kind / "02.png"), exif=exif)
    seen = survey(make(tmp_path))
    assert find(seen) == []
    [look] = [look for _, look in seen.all() if look.orientation != 1]
    assert (look.id, look.orientation, look.mask_orientation, look.shape) == ("02", 8, 8, (64, 48))


def test_what_is_turned_otherwise_than_its_mask_is_looked_at_closely(tmp_path):
    draw(tmp_path, count=100)
    exif = Image.Exif()
    exif[274] = 3
    for number in range(0, 100, 7):
        file = tmp_path / "images" / f"{number:02}.png"
        save(file, np.ascontiguousarray(read(file)[::-1, ::-1]), exif=exif)
    looks = [look for _, look in survey(make(tmp_path)).all()]
    assert all(look.alignment for look in looks if look.orientation == 3)
    assert not all(look.alignment for look in looks)
