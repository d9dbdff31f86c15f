"""A run keeps its own split, whatever happens to the files it was drawn from."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import folder as page
from unet_jax import training
from unet_jax.augment.scale import standardise, to_unit
from unet_jax.config import load, to_json
from unet_jax.data import class_weights, storage
from unet_jax.data.base import Dataset
from unet_jax.data.sample import RGB
from unet_jax.data.sources import open_data
from unet_jax.errors import UserError
from unet_jax.evaluate import evaluate_run
from unet_jax.restore import restore
from unet_jax.runs import splits
from unet_jax.runs.checkpoint import read_arrays
from unet_jax.runs.results import read_results
from unet_jax.studies.pack import train as pack
from unet_jax.studies.sweep import probe

SIZE = (16, 16)
NAMES = tuple(f"n{index:03}" for index in range(100))
LAST = 3  # 90 images at 30 a step, once


def save(data, name, seed):
    rng = np.random.default_rng(seed)
    for kind, array in (
        ("images", rng.integers(0, 256, (*SIZE, 3), np.uint8)),
        ("masks", (rng.random(SIZE) < 0.2).astype(np.uint8)),
    ):
        (data / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(data / kind / f"{name}.png")


def make_config(data):
    config = page.get_config()
    config.data.path, config.data.image_size, config.data.workers = str(data), SIZE, 2
    config.model.features = (4, 8)
    config.model.repeats = config.model.decoder_repeats = (1,)
    config.train.duration, config.train.batch_size = "1 epoch", 30
    config.train.eval_every = config.train.checkpoint_every = "1 step"
    config.eval.batch_size, config.eval.shown, config.eval.figures = 8, 2, False
    config.mesh.data = 1
    config.loss.cross_entropy.class_weights = ("balanced",)
    config.data.cache, config.data.cache_dir = 1, str(data.parent / "decoded")
    return config


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run and its data, which tests copy."""
    root = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(NAMES):
        save(root / "data", name, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNET_JAX_CACHE", str(root / "cache"))
        training.train_and_evaluate(make_config(root / "data"), root / "run")
    return root


@pytest.fixture
def copied(trained, tmp_path):
    """Copies data and run elsewhere: other paths, and (unlike copy2) other times."""
    for name in ("data", "run"):
        shutil.copytree(trained / name, tmp_path / name, copy_function=shutil.copyfile)
    return tmp_path, make_config(tmp_path / "data")


def unfinish(run):
    """Takes away what came after the last checkpoint but one."""
    shutil.rmtree(run / "checkpoints" / str(LAST))
    assert (run / "checkpoints" / str(LAST - 1)).is_dir()
    (run / "results.json").unlink()


def counted_ids(run, name="val"):
    step = read_results(run)[name]["step"]
    with np.load(run / "evaluations" / f"{name}_{step:08d}.npz") as saved:
        return [str(image) for image in saved["id"]]


def score(config, run, names):
    """Returns the mIoU of the run's best network, from files, one image at a time, in NumPy."""
    found = restore(config, run, "best")
    confusion = np.zeros((2, 2), np.int64)
    for name in names:
        data = run.parent / "data"
        image = np.asarray(Image.open(data / "images" / f"{name}.png"))
        mask = np.asarray(Image.open(data / "masks" / f"{name}.png"))
        logits = found.network.model.apply(
            found.variables, standardise(to_unit(image[None], RGB.value_range)), train=False
        )
        np.add.at(confusion, (mask.ravel(), np.asarray(logits)[0].argmax(-1).ravel()), 1)
    hit = np.diag(confusion)
    return np.mean(hit / (confusion.sum(0) + confusion.sum(1) - hit))


def test_an_added_image_is_left_out_of_the_evaluation(copied, capsys):
    root, config = copied
    before = counted_ids(root / "run")
    assert len(before) == 10
    save(root / "data", "a_new_one", 1000)
    drawn = open_data(**config.data)[0].splits["val"].ids
    assert sorted(drawn) != sorted(before), "the new file draws another split"
    evaluate_run(config, root / "run", split="val", checkpoint="best")
    assert counted_ids(root / "run") == before
    found = read_results(root / "run")["val"]["mIoU"]
    assert found == pytest.approx(score(config, root / "run", before), abs=1e-12)
    assert "1 image that this run has not seen is left out." in capsys.readouterr().out


def test_a_run_goes_on_with_its_own_images_and_steps(trained, copied, capsys, monkeypatch):
    root, config = copied
    unfinish(root / "run")
    for seed, name in enumerate(("a_new_one", "zz", "zzz")):
        save(root / "data", name, 1000 + seed)
    (root / "data" / "masks" / "zzz.png").unlink()  # it is nobody's yet
    (root / "data" / "images" / "zz.png").write_bytes(b"")
    (root / "data" / "val.txt").write_text("n000\n")
    config.eval.shown, config.eval.batch_size = 3, 4
    monkeypatch.setattr(class_weights, "count_images", lambda *_: 1 / 0)
    shutil.copytree(trained / "decoded", root / "decoded")
    training.train_and_evaluate(config, root / "run")
    shown = capsys.readouterr().out
    pixels = np.zeros(2, int)
    for name in json.loads((root / "run" / "split.json").read_text())["train"]:
        for value in np.asarray(Image.open(root / "data" / "masks" / f"{name}.png")).ravel():
            pixels[value] += 1
    first, second = pixels.sum() / (2 * pixels)
    assert f"class weights    balanced: background {first:.4g}, object {second:.4g}\n" in shown
    assert "2 images that this run has not seen are left out." in shown
    assert "resumes at       step 2" in shown
    one, other = (read_arrays(x / "run" / "checkpoints" / str(LAST)) for x in (trained, root))
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}
    assert read_results(root / "run")["train"]["step"] == LAST
    assert load(root / "run" / "config.json").eval.shown == 3


def test_fingerprints_are_of_the_bytes_and_files_are_read_once(trained, copied, monkeypatch):
    root, config = copied
    kept = json.loads((root / "run" / "split.json").read_text())
    assert {name: len(ids) for name, ids in kept.items()} == {"train": 90, "val": 10}
    assert sorted([*kept["train"], *kept["val"]]) == list(NAMES)
    assert list(kept["val"]) == counted_ids(root / "run")
    for ids in kept.values():
        for name, found in ids.items():
            files = [trained / "data" / kind / f"{name}.png" for kind in ("images", "masks")]
            sums = [hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files]
            assert found == "".join(sums)
    read, asked = storage.read_with, []
    monkeypatch.setattr(
        storage, "read_with", lambda path, *rest: asked.append(path) or read(path, *rest)
    )
    dataset, _ = open_data(**config.data)
    assert splits.take(dataset) == kept
    assert len(asked) == 200
    assert splits.take(dataset) == kept
    assert len(asked) == 200
    os.utime(root / "data" / "masks" / f"{next(iter(kept['val']))}.png", ns=(0, 0))
    assert splits.take(dataset) == kept
    assert len(asked) == 220  # the split of that file


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_changed_file_of_the_split_that_is_read_is_named(copied, kind):
    root, config = copied
    name = counted_ids(root / "run")[4]
    file = root / "data" / kind / f"{name}.png"
    mode = "RGB" if kind == "images" else "L"
    Image.new(mode, SIZE).save(file)
    before = (root / "run" / "results.json").read_bytes()
    says = (
        rf"the val split is not what .* of 10 images 0 are missing and 1 have .* first is {file};"
    )
    with pytest.raises(UserError, match=says):
        evaluate_run(config, root / "run", split="val", checkpoint="best")
    assert (root / "run" / "results.json").read_bytes() == before
    unfinish(root / "run")
    with pytest.raises(UserError, match=says):
        training.train_and_evaluate(config, root / "run")
    assert not (root / "run" / "results.json").exists()


def test_files_of_a_split_that_is_not_read_are_said(copied, capsys):
    root, config = copied
    first, second, *_ = json.loads((root / "run" / "split.json").read_text())["train"]
    (root / "data" / "masks" / f"{first}.png").unlink()
    Image.new("RGB", SIZE).save(root / "data" / "images" / f"{second}.png")
    before = counted_ids(root / "run")
    evaluate_run(config, root / "run", split="val", checkpoint="best")
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "the train split is not what it was when the run began: of 90 images 1 are missing" in shown
    )
    assert f"1 have changed, the first is '{first}'" in shown
    assert counted_ids(root / "run") == before
    with pytest.raises(
        UserError, match=rf"the train split .* first is '{first}', whose image or.*split.json"
    ):
        evaluate_run(config, root / "run", split="train", checkpoint="best")


def test_a_run_without_a_stored_split_says_so(copied, capsys, monkeypatch):
    root, config = copied
    before = counted_ids(root / "run")
    (root / "run" / "split.json").unlink()
    evaluate_run(config, root / "run", split="val", checkpoint="best")
    assert "has no split.json" in capsys.readouterr().out
    assert counted_ids(root / "run") == before
    unfinish(root / "run")
    monkeypatch.setattr(training, "loop", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.train_and_evaluate(config, root / "run")
    assert "has no split.json" in capsys.readouterr().out
    assert not (root / "run" / "split.json").exists()


def test_overwrite_draws_anew(copied, capsys, monkeypatch):
    root, config = copied
    save(root / "data", "a_new_one", 1000)
    monkeypatch.setattr(training, "Run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # when it has begun
        training.train_and_evaluate(config, root / "run", overwrite=True)
    kept = json.loads((root / "run" / "split.json").read_text())
    assert sorted([*kept["train"], *kept["val"]]) == sorted([*NAMES, "a_new_one"])
    assert "not seen" not in capsys.readouterr().out


def test_a_test_list_that_came_later(copied):
    root, config = copied
    own = list(json.loads((root / "run" / "split.json").read_text())["train"])
    for seed, name in enumerate(("t1", "t2")):
        save(root / "data", name, 2000 + seed)
    (root / "data" / "test.txt").write_text("t2\nt1\n")
    evaluate_run(config, root / "run", split="test", checkpoint="best")
    assert counted_ids(root / "run", "test") == ["t2", "t1"]
    (root / "data" / "test.txt").write_text(f"t2\n{own[7]}\n")
    with pytest.raises(UserError, match=rf"^1 of the 2 images of the test split .* '{own[7]}'"):
        evaluate_run(config, root / "run", split="test", checkpoint="best")


def test_a_split_that_the_data_lack():
    dataset = Dataset({"train": "a", "val": "b"}, ("x", "y"))
    assert splits.pick_split(dataset, "val") == "b"
    needs = (
        r"allowed are train, val\. It needs test\.txt or config\.data\.folder\.test_fraction=0\.2"
    )
    with pytest.raises(UserError, match=rf"^--split='test' is not in the data; {needs}"):
        splits.pick_split(dataset, "test")


def test_a_broken_split_file_is_named(copied):
    root, config = copied
    (root / "run" / "split.json").write_text('{"train": ')
    with pytest.raises(UserError, match=r"split\.json is not what a run wrote"):
        evaluate_run(config, root / "run", split="val", checkpoint="best")


def test_drawn_images_are_kept_by_their_names(tmp_path):
    small = {"train": 4, "val": 2, "test": 2, "size": 8}
    kept = splits.take(open_data(synthetic=small)[0])
    assert kept["val"] == {"val_00000": "", "val_00001": ""}
    splits.open_kept({"synthetic": small}, kept, ("train", "val"))
    save(tmp_path, "a", 0)
    save(tmp_path, "b", 1)
    section = make_config(tmp_path).data
    with pytest.raises(UserError, match=r"the train split .* of 4 images 4 are missing"):
        splits.open_kept(section, kept, ("train",))


def test_a_pack_and_the_sweeps_probe_keep_the_split(copied, monkeypatch):
    root, config = copied
    shutil.copytree(root / "run", root / "other")
    for run in ("run", "other"):
        (root / run / "results.json").unlink()
    (root / "other" / "split.json").unlink()  # as of a trial that has not begun
    shutil.rmtree(root / "other" / "checkpoints")
    save(root / "data", "a_new_one", 1000)
    seen = []

    def look(members, *_):
        seen.extend(members)
        return []

    monkeypatch.setattr(pack, "_train", look)
    monkeypatch.setattr(pack, "InTurn", lambda members: members)
    monkeypatch.setitem(pack.WAYS, "in_turn", Way)
    folders = [root / "run", root / "other"]
    pack.train_packed(dict.fromkeys(folders, config), {folder: {} for folder in folders}, "in_turn")
    kept = json.loads((root / "run" / "split.json").read_text())
    assert json.loads((root / "other" / "split.json").read_text()) == kept
    for member in seen:
        assert list(member.experiment.dataset.splits["val"].ids) == list(kept["val"])
        assert member.experiment.plan.total == LAST
    (root / "other" / "split.json").write_text(json.dumps({**kept, "val": {"n000": ""}}))
    with pytest.raises(UserError, match="run and other keep different splits"):
        pack.train_packed(
            dict.fromkeys(folders, config), {folder: {} for folder in folders}, "in_turn"
        )

    file = root / "run" / "config.json"
    file.write_text(to_json(config))
    found = probe.answer([file], timed=False, began=0.0)
    assert found["facts"][0].steps == LAST
    file = root / "config.json"  # of a trial that has not begun
    file.write_text(to_json(config))
    assert probe.answer([file], timed=False, began=0.0)["facts"][0].steps == LAST + 1


class Way:
    """Stands for a way to train a pack, which the test does not."""

    def __init__(self, members):
        self.members = members

    def most(self):
        return len(self.members)


def test_a_fold_of_groups_is_kept_and_said(tmp_path, capsys, monkeypatch):
    names = [f"p{p}/{i}" for p in range(5) for i in range(2)]
    for seed, name in enumerate(names):
        for kind in ("images", "masks"):
            (tmp_path / "data" / kind / name).parent.mkdir(parents=True, exist_ok=True)
        save(tmp_path / "data", name, seed)
    rows = "".join(f"{name},{name[:2]}\n" for name in names)
    (tmp_path / "data" / "t.csv").write_text(f"name,who\n{rows}")
    config = make_config(tmp_path / "data")
    config.data.fold, config.data.folds = 1, 5
    config.data.split.group_column, config.data.split.table = "who", "t.csv"
    config.train.duration, config.train.batch_size = "2 steps", 4
    monkeypatch.setattr(training, "loop", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.train_and_evaluate(config, tmp_path / "run")
    shown = capsys.readouterr().out
    assert "  data             train 8, val 2\n" in shown
    says = "val fold 1 of 5, 5 groups by group_column='who', seed 0"
    assert f"  splits           {says}\n" in shown
    kept = splits.read(tmp_path / "run")
    assert len({name[:2] for name in kept["val"]}) == 1
    assert sorted([*kept["train"], *kept["val"]]) == names
    # What is kept asks for no table, and another fold is another run.
    (tmp_path / "data" / "t.csv").unlink()
    save(tmp_path / "data", "p9", 9)
    opened, _ = splits.open_kept(config.data, kept, ("train", "val"))
    assert {name: list(split.ids) for name, split in opened.splits.items()} == {
        name: list(ids) for name, ids in kept.items()
    }
    assert opened.split_by == "as the run drew them, in split.json"
    config.data.fold = 2
    (tmp_path / "run" / "checkpoints" / "1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"config\.data\.fold: 1 -> 2"):
        training.train_and_evaluate(config, tmp_path / "run")


def test_all_that_has_changed_is_said_in_one_line(copied, capsys, monkeypatch):
    root, config = copied
    kept = json.loads((root / "run" / "split.json").read_text())
    first, second, *_ = kept["train"]
    (root / "data" / "masks" / f"{first}.png").unlink()
    Image.new("RGB", SIZE).save(root / "data" / "images" / f"{second}.png")
    save(root / "data", "a_new_one", 1000)
    said = []
    monkeypatch.setattr(splits.console, "print", said.append)
    splits.open_kept(config.data, kept, ("val",))
    assert said == [
        "the train split is not what it was when the run began: of 90 images 1 are missing and 1 "
        f"have changed, the first is {first!r}, whose image or mask is not in config.data.path="
        f"{str(root / 'data')!r}, as images, masks and mask_suffix of config.data.folder name "
        "them; "
        "this split is not read now. 1 image that this run has not seen is left out."
    ]
