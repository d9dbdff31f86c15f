import base64
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import unet_jax
from unet_jax.config import load
from unet_jax.data.base import IGNORE
from unet_jax.data.sources import open_data
from unet_jax.defaults import page
from unet_jax.doctor.audit_page import audit_section
from unet_jax.doctor.audit_runs import FILE, MASKS, audit_runs
from unet_jax.doctor.survey import survey
from unet_jax.doctor.thumbnails import Album
from unet_jax.errors import UserError
from unet_jax.figures.colours import ERROR_COLOUR
from unet_jax.html.elements import make

NAMES = ("ground", "disk", "ring")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a run of two steps, which has learnt next to nothing, on images of three sizes."""
    root = tmp_path_factory.mktemp("audited")
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / "data" / kind / "in").mkdir(parents=True)
    for i in range(9):
        size = [(32, 32), (24, 40), (33, 19)][i % 3]
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        mask = rng.integers(0, 3, (5, 5), np.uint8).repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
        mask[:2] = 7
        Image.fromarray(image).save(root / f"data/images/in/{i}.png")
        Image.fromarray(mask).save(root / f"data/masks/in/{i}.png")
    folder = {"class_names": NAMES, "ignore_values": (7,), "test_fraction": 0.2}
    data = {"source": "folder", "path": str(root / "data"), "image_size": (32, 32)}
    config = page(
        data=data | {"folder": folder, "val_fraction": 0.3},
        model={"features": (2, 4), "repeats": (1,), "decoder_repeats": (1,)},
        train={"duration": "2 steps", "batch_size": 4, "eval_every": "2 steps"},
        eval={"batch_size": 4, "shown": 1},
        mesh={"data": 1},
    )
    unet_jax.train(config, root / "run")
    return root


def labels(config):
    splits = open_data(**config.data.to_dict())[0].splits
    return {
        name: source.read(index).label
        for source in splits.values()
        for index, name in enumerate(source.ids)
    }


def test_what_is_suspect_is_left_out_by_the_line_that_is_given(run, tmp_path):
    config = load(run / "run" / "config.json")
    audit = audit_runs([run / "run"], tmp_path / "audit")
    assert {image.split for image in audit.images} == {"train", "val", "test"}
    assert len(audit.images) == 9
    assert audit.regions()  # a network that guesses disagrees
    before = labels(config)
    config.data.folder.ignore_masks = str(tmp_path / "audit" / MASKS)
    after = labels(config)
    for image in audit.images:
        left = (after[image.id] == IGNORE) & (before[image.id] != IGNORE)
        assert image.suspect == left.sum() / (before[image.id] != IGNORE).sum()
        for region in image.regions:
            box = tuple(slice(*ends) for ends in region.box)
            assert left[box].sum() >= region.pixels
            assert (before[image.id][box][left[box]] == NAMES.index(region.given)).any()
        kept = ~left
        np.testing.assert_array_equal(after[image.id][kept], before[image.id][kept])
    written = json.loads((tmp_path / "audit" / FILE).read_text())
    assert [one["id"] for one in written["images"]] == [image.id for image in audit.images]
    assert written["regions"][0]["evidence"] == audit.regions()[0].evidence
    again = audit_runs([run / "run"], tmp_path / "audit")
    assert again == audit


def test_the_page_marks_exactly_the_pixels_that_are_suspect(run, tmp_path):
    audit = audit_runs([run / "run"], tmp_path)
    album = Album(survey(load(run / "run" / "config.json")))
    html = make("body", *audit_section(audit, tmp_path, [album]))
    assert f"config.data.folder.ignore_masks=&#x27;{tmp_path / MASKS}&#x27;" in html
    worst = audit.images[0]
    suspects = np.asarray(Image.open(tmp_path / MASKS / f"{worst.id}.png").convert("L")) == 0
    counts = labels(load(run / "run" / "config.json"))[worst.id] != IGNORE
    url = album.marked(worst.id, suspects).url
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
    is_red = np.abs(shown.astype(int) - ERROR_COLOUR).max(-1) < 60  # a JPEG
    np.testing.assert_array_equal(is_red, suspects & counts)


def test_runs_that_share_validation_images_are_refused(run, tmp_path):
    shutil.copytree(run / "run", tmp_path / "again")
    with pytest.raises(UserError, match=r"^image 'in/\d' is in the validation split of .*folds"):
        audit_runs([run / "run", tmp_path / "again"], tmp_path / "audit")
    assert not (tmp_path / "audit").exists()
    with pytest.raises(UserError, match="does not exist"):
        audit_runs([tmp_path / "none"], tmp_path / "audit")


def test_only_masks_of_an_earlier_audit_go(run, tmp_path):
    (tmp_path / MASKS).mkdir()
    other = tmp_path / "other.png"
    for name in ("mine", "theirs"):
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / MASKS / f"{name}.png")
    other.write_bytes(b"x")
    names = ["theirs.png", "../other.png"]
    (tmp_path / FILE).write_text(json.dumps({MASKS: names}))
    audit_runs([run / "run"], tmp_path)
    assert (tmp_path / MASKS / "mine.png").exists()
    assert not (tmp_path / MASKS / "theirs.png").exists()
    assert other.exists()
