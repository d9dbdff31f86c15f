"""Images that are no whole file: pages of stacks, and files whose channels are one image."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from support import miniatures
from support.miniatures import save
from support.opening import opened

from unet_jax.data.sources import read_loading
from unet_jax.defaults import page
from unet_jax.errors import UserError
from unet_jax.models.variants import section
from unet_jax.predict.inputs import find_images, open_images
from unet_jax.predict.run import predict_run
from unet_jax.training import train_and_evaluate

CELLS = {"class_names": ("membrane", "cell"), "label_map": ((0, 0), (255, 1))}
T1_T2 = "t1/{name}.png, t2/{name}.png,rgb/{name}.png"


def assert_pages(dataset, name, volume, labels):
    seen = []
    for split in dataset.splits.values():
        for index, image_id in enumerate(split.ids):
            number = int(image_id.removeprefix(f"{name}/"))
            sample, part = split.read(index), split.read(index, (slice(2, 5), slice(1, 4)))
            assert sample.image.dtype == volume.dtype
            np.testing.assert_array_equal(sample.image, volume[number][..., None])
            np.testing.assert_array_equal(sample.label, labels[number] // 255)
            np.testing.assert_array_equal(part.image, volume[number, 2:5, 1:4, None])
            np.testing.assert_array_equal(part.label, labels[number, 2:5, 1:4] // 255)
            assert split.shape(index) == volume.shape[1:]
            seen.append(number)
    assert sorted(seen) == list(range(len(volume)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_stacks_of_pages(root, dtype, capsys):
    volume, labels = miniatures.stacks(root, dtype)
    dataset = opened(root)
    assert dataset.class_names == ("membrane", "cell")
    assert list(dataset.splits["val"].ids) == ["train-volume/010", "train-volume/011"]
    assert_pages(dataset, "train-volume", volume, labels)
    said = " ".join(capsys.readouterr().out.split())
    assert "test-volume.tif: without labels, passed over" in said
    assert "read as config.data.folder.layout='stacks'" in said
    (root / "val.txt").write_text("train-volume/003\n")
    listed = opened(root).splits
    assert list(listed["val"].ids) == ["train-volume/003"]
    assert len(listed["train"]) == 11


@pytest.mark.parametrize(
    ("count", "share", "blocks"),
    [
        (30, 0.2, (20, 24)),
        (12, 0.2, (8, 10)),
        (7, 0.5, (2, 3)),
        (4, 0.01, (2, 3)),
        (3, 0.4, (1, 2)),
    ],
)
def test_the_last_pages_are_for_the_test_and_those_before_for_validation(
    root, count, share, blocks
):
    root.mkdir(exist_ok=True)
    for kind in ("image", "label"):
        np.save(root / f"a_{kind}.npy", np.zeros((count, 3, 3), np.uint8))
    given = {"images": "{name}_image.npy/{page}", "masks": "{name}_label.npy/{page}", **CELLS}
    splits = opened(root, test_fraction=share, **given).splits
    pages = {name: [int(one.split("/")[1]) for one in split.ids] for name, split in splits.items()}
    val, test = blocks
    assert pages["test"] == list(range(test, count))
    assert pages["val"] == list(range(val, test))
    assert pages["train"] == list(range(val))


def test_any_pair_of_files_with_pages(root):
    volume, labels = miniatures.stacks(root)
    np.save(root / "a_image.npy", volume[:4])
    tifffile.imwrite(root / "a_label.tif", labels[:4], photometric="minisblack")
    given = {"images": "{name}_image.npy/{page}", "masks": "{name}_label.tif/{page}", **CELLS}
    dataset = opened(root, **given)
    assert list(dataset.splits["train"].ids) == ["a/000", "a/001", "a/002"]
    assert_pages(dataset, "a", volume[:4], labels[:4])
    np.save(root / "a_image.npy", volume[:3])
    with pytest.raises(
        UserError, match=r"a_image\.npy has 3 pages and its masks .*have 4"
    ) as error:
        opened(root, **given)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"must both end with /\{page\}"):
        opened(root, **given | {"masks": "{name}_label.tif"})


def test_files_become_channels(root):
    found = miniatures.channels(root)
    dataset = opened(root, images=T1_T2, masks="masks/{name}.png", class_names=("a", "b"))
    for split in dataset.splits.values():
        assert split.spec[:3] == (2, 5, "uint8")
        for index, name in enumerate(split.ids):
            image, mask = found[name]
            sample = split.read(index)
            np.testing.assert_array_equal(sample.image, image)
            np.testing.assert_array_equal(sample.label, mask)
            part = split.read(index, (slice(0, 1), slice(1, 3)))
            np.testing.assert_array_equal(part.image, image[:1, 1:3])


def test_channels_of_other_types_stay_what_they_are(root):
    rng = np.random.default_rng(0)
    arrays = {}
    for name in "abc":
        arrays[name] = rng.integers(0, 65536, (7, 5, 4)).astype(np.uint16)
        (root / "deep").mkdir(parents=True, exist_ok=True)
        Image.fromarray(arrays[name][..., 0]).save(root / "deep" / f"{name}.png")
        tifffile.imwrite(root / "deep" / f"{name}.tif", arrays[name][..., 1:], photometric="rgb")
        save(root / "masks" / f"{name}.png", np.eye(7, 5))
    given = {"images": "deep/{name}.png,deep/{name}.tif", "masks": "masks/{name}.png"}
    dataset = opened(root, class_names=("a", "b"), **given)
    assert dataset.splits["train"].spec[:3] == (2, 4, "uint16")
    for split in dataset.splits.values():
        for index, name in enumerate(split.ids):
            np.testing.assert_array_equal(split.read(index).image, arrays[name])


FAULTS = {
    "missing": (
        lambda root: (root / "t2" / "2.png").unlink(),
        r"t1/2\.png has no file of config\.data\.folder\.images='t2/\{name\}\.png'",
    ),
    "size": (
        lambda root: save(root / "t2" / "2.png", np.zeros((2, 9))),
        r"t2/2\.png is 2x9 of uint8 and .*t1/2\.png is 1x3 of uint8; .* one size and one type",
    ),
    "type": (
        lambda root: Image.fromarray(np.zeros((1, 3), np.uint16)).save(root / "t2" / "2.png"),
        r"t2/2\.png is 1x3 of uint16 and .*t1/2\.png is 1x3 of uint8",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_do_not_fit_are_one_line(root, fault):
    miniatures.channels(root)
    FAULTS[fault][0](root)
    given = {"images": T1_T2, "masks": "masks/{name}.png", "class_names": ("a", "b")}
    with pytest.raises(UserError, match=FAULTS[fault][1]) as error:
        opened(root, **given)
    assert "\n" not in str(error.value)
    (root / "masks").rename(root.parent / "masks")

    def predict():
        files = find_images([str(root)], root.parent / "out", T1_T2)
        open_images({"2": files["2"]}, read_loading({}))

    with pytest.raises(UserError, match=FAULTS[fault][1]):
        predict()


def test_a_run_predicts_files_that_become_channels(root, tmp_path):
    found = miniatures.channels(root)
    folder = {"images": T1_T2, "masks": "masks/{name}.png", "class_names": ("a", "b")}
    config = page(
        data={"source": "folder", "path": str(root), "image_size": (8, 8), "folder": folder}
        | {"val_fraction": 0.3},
        model=section(features=(4, 8), repeats=(1,)),
        train={"duration": "1 step", "batch_size": 2},
        mesh={"data": 1},
    )
    config.eval.figures = False
    train_and_evaluate(config, tmp_path / "run")
    args = {"output": str(tmp_path / "out"), "checkpoint": "latest"}
    predict_run(config, tmp_path / "run", inputs=[str(root)], **args)
    for name, (image, _) in found.items():
        assert np.asarray(Image.open(tmp_path / "out" / f"{name}.png")).shape == image.shape[:2]
        assert (tmp_path / "out" / f"{name}_overlay.png").exists()


def test_pages_are_predicted_one_by_one(root, tmp_path):
    volume, _ = miniatures.stacks(root)
    text = str(root / "test-volume.tif/{page}")
    files = find_images([text], tmp_path / "out")
    images, failed = open_images(files, read_loading({}))
    assert list(images.ids) == [f"test-volume/{n:03}" for n in range(12)]
    assert not failed
    assert images.spec[:3] == (2, 1, "uint8")
    np.testing.assert_array_equal(images.read(7).image, volume[7][..., None])
    with pytest.raises(UserError, match=r"none\.tif/{page} does not exist"):
        find_images([f"{root}/none.tif/{{page}}"], tmp_path / "out")
