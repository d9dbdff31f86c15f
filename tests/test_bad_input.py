"""What users get wrong, on the real command: exit code 2 and one line that says what to change."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from support import caches
from support.paths import ROOT
from support.runs import TINY

from experiments.bad_values import bench

FOLDER = (
    "--config=configs/folder.py",
    "--config.model.features=(4,8)",
    "--config.data.image_size=(32,)",
    "--config.train.duration=2",
    "--config.train.eval_every=2",
    "--config.train.checkpoint_every=2",
    "--config.train.batch_size=4",
    "--config.eval.batch_size=4",
    "--config.data.workers=2",
    "--config.mesh.data=1",
)
NAMES = [f"pic_{i}" for i in range(8)]


@pytest.fixture
def folder(tmp_path_factory):
    """Returns an empty folder whose name holds nothing that a message could be searched for."""
    return tmp_path_factory.mktemp("x")


@pytest.fixture(autouse=True)
def own_cache(folder, monkeypatch):
    """Keeps what the command remembers of checked images."""
    caches.give_own(folder, monkeypatch)


@pytest.fixture
def inside(capsys, monkeypatch):
    """Returns a function that runs the command in this process, where jax has started already."""
    monkeypatch.chdir(ROOT)

    def run(*flags):
        code = bench.command(["main", *map(str, flags)])
        return subprocess.CompletedProcess(flags, code, *capsys.readouterr())

    return run


@pytest.fixture
def refuse(command, folder):
    """Returns a function that runs the command and checks that it ends with one clear line."""

    def run(*flags, says, workdir=folder / "run", command=command, **kwargs):
        result = command(*flags, *([f"--workdir={workdir}"] if workdir else []), **kwargs)
        assert result.returncode == 2, result.stderr
        lines = result.stderr.splitlines()
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        assert "Traceback" not in result.stdout + result.stderr
        missing = [piece for piece in says if piece not in lines[0]]
        assert not missing, lines[0]
        if workdir:  # nothing was begun, so that the same line with the mistake mended may begin
            assert not list(workdir.glob("*"))
        return lines[0]

    return run


@pytest.fixture
def no_jax(folder, monkeypatch):
    """Makes `import jax` an error in commands: what is wrong with a flag is told without it."""
    (folder / "block").mkdir()
    (folder / "block" / "jax.py").write_text("raise RuntimeError('jax was imported')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder / "block"))


@pytest.fixture
def images(folder):
    """Makes a folder of eight good images with masks of two classes."""
    data, rng = folder / "data", np.random.default_rng(0)
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
    for name in NAMES:
        image = Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8))
        image.save(data / "images" / f"{name}.jpg")
        save_mask(data, name, rng.integers(0, 2, (40, 48)))
    return data


def save_mask(data, name, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(data / "masks" / f"{name}.png")


def page(folder, line):
    """Writes a config page: that of tiny.py, changed by one line."""
    file = folder / "page.py"
    file.write_text(
        "import runpy\n\n"
        "from ml_collections import ConfigDict\n\n\n"
        "def get_config():\n"
        "    config = runpy.run_path('configs/tiny.py')['get_config']().to_dict()\n"
        f"    {line}\n"
        "    return ConfigDict(config)\n"
    )
    return f"--config={file}"


@pytest.mark.usefixtures("no_jax")
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([TINY, "--config.train.foo=1"], ["--config.train.foo", "batch_size", "duration"]),
        ([TINY, "--config.train.foo", "1"], ["--config.train.foo", "batch_size", "duration"]),
        ([TINY, "--noconfig.foo.bar"], ["--noconfig.foo.bar", "augment, data, eval"]),
        ([TINY, "--config.train.seed.foo=1"], ["--config.train.seed.foo", "train.seed has 0"]),
        ([TINY, "--config.train.batch_size=abc"], ["--config.train.batch_size=abc", "int"]),
        ([TINY, "--config.optim.learning_rate=x"], ["--config.optim.learning_rate=x", "float"]),
        (
            [TINY, "--config.augment.flip.left_right=maybe"],
            ["--config.augment.flip.left_right=maybe", "oolean"],
        ),
        (
            [TINY, "--config.augment.zoom.aspect=wide"],
            ["--config.augment.zoom.aspect=wide", "float"],
        ),
        (
            [TINY, "--config.augment.flip_lr=True"],
            ["config.augment.flip_lr has another name now: config.augment.flip.left_right."],
        ),
        (
            [TINY, "--noconfig.augment.flip_lr"],
            ["config.augment.flip_lr has another name now: config.augment.flip.left_right."],
        ),
        ([TINY, "--config.augment.zoom=(1.0, 1.2)"], ["config.augment.zoom.scale."]),
        ([TINY, "--config.loss.name=cross_entropy"], ["loss.name has another name", "dice.weight"]),
        ([TINY, "--config.loss.nosuch.weight=1.0"], ["--config.loss.nosuch.weight", "dice"]),
        ([TINY, "--batch_size=3"], ["'batch_size'", "--help"]),
        ([TINY, "extra"], ["'extra'", "--FLAG=VALUE"]),
        ([TINY, "--mode=test"], ["--mode=test", "train|eval|predict"]),
        (["--config.train.seed=1", TINY], ["--config.train.seed=1", "before"]),
        (["--config=configs/nosuch.py"], ["--config=configs/nosuch.py", "shapes.py"]),
        (["--config=pyproject.toml"], ["pyproject.toml, line"]),
        (["--config=unet_jax/errors.py"], ["unet_jax/errors.py", "get_config"]),
        (["--config="], ["--config=", "shapes.py"]),
        (["--config=configs/oxford_pets.py:nosuch"], ["nosuch", "full", "cpu"]),
        (["--mode=eval"], ["run/config.json", "--workdir"]),
        (["--mode", "predict", "--input=x.png"], ["run/config.json", "--workdir"]),
    ],
)
def test_flags(refuse, flags, says):
    refuse(*flags, says=says)


@pytest.mark.usefixtures("no_jax")
@pytest.mark.parametrize("flags", [[], ["--workdir="], ["--workdir"]])
def test_no_workdir(refuse, flags):
    refuse(TINY, *flags, says=["--workdir" if flags != ["--workdir"] else "workdir"], workdir=None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("config['train']['foo'] = 1", ["config.train.foo", "batch_size", "log_every"]),
        ("config['foo'] = {}", ["'foo'", "data, augment, model"]),
        ("del config['mesh']", ["'mesh'", "data, augment, model"]),
        ("config['model']['features'] = 64", ["config.model.features=64", "tuple", "(64, 128"]),
        ("config['model']['features'] = (4, 'a')", ["config.model.features[1]='a'", "int"]),
        ("config['train']['seed'] = True", ["config.train.seed=True", "bool", "int"]),
        ("config['train'] = 5", ["config.train=5", "section"]),
        ("config['loss']['nosuch'] = {}", ["config.loss.nosuch", "cross_entropy, dice"]),
        ("config['loss'] = {'dice_weight': 0.5}", ["config.loss.dice_weight", "loss.dice.weight"]),
        ("config['augment'] = {'zoom': (0.5, 1.0)}", ["config.augment.zoom", "zoom.scale"]),
    ],
)
def test_page(refuse, inside, folder, line, says):
    refuse(page(folder, line), says=says, command=inside)


@pytest.mark.parametrize(
    ("flag", "allowed"),
    [
        ("config.model.norm=foo", "batch, group, instance, none"),
        ("config.loss.dice.weight=-1", "from 0 to 1e+06"),
        ("config.optim.schedule=foo", "cosine, polynomial, constant"),
        ("config.data.source=foo", "folder, pets, tfds, synthetic"),
        ("config.data.fit=foo", "resize, crop"),
        ("config.train.duration=3 parsecs", '"30 epochs"'),
        ("config.train.duration=10%", '"30 epochs"'),
        ("config.train.eval_every=often", '"10%"'),
        ("config.train.seed=-1", "0 or more"),
        ("config.data.synthetic.size=0", "1 or more"),
    ],
)
def test_values(refuse, inside, flag, allowed):
    key, value = flag.split("=")
    refuse(TINY, f"--{flag}", says=[key, value, allowed], command=inside)


def test_batch_that_the_mesh_does_not_divide(refuse, inside):
    flags, says = [TINY, "--config.train.batch_size=12"], ["config.train.batch_size=12", "8 or 16"]
    refuse(*flags, says=[*says, "8 devices"], command=inside)


def test_mesh_larger_than_the_devices(refuse):
    says = ["config.mesh (data=3", "2 devices", "1 or 2", "data=-1"]
    refuse(TINY, "--config.mesh.data=3", says=says, devices=2)


def test_workdir_that_cannot_be_written(refuse, folder):
    (folder / "file").write_text("")
    workdir = folder / "file" / "run"
    refuse(TINY, says=[f"--workdir={workdir}", "Not a directory", "another"], workdir=workdir)


def no_images(data):
    for file in (data / "images").iterdir():
        file.unlink()
    (data / "images").rmdir()


def no_masks(data):
    (data / "masks").rename(data / "labels")


def other_size(data):
    save_mask(data, "pic_3", np.zeros((40, 47)))


def rgb_mask(data):
    Image.new("RGB", (48, 40)).save(data / "masks" / "pic_3.png")


def deep_image(data):
    (data / "images" / "pic_3.jpg").unlink()
    Image.fromarray(np.zeros((40, 48), np.uint16)).save(data / "images" / "pic_3.png")


def truncated(data):
    file = data / "images" / "pic_3.jpg"
    file.write_bytes(file.read_bytes()[:-200])


def text_file(data):
    (data / "masks" / "pic_3.png").write_text("no image")


def dead_link(data):
    (data / "masks" / "pic_3.png").unlink()
    (data / "masks" / "pic_3.png").symlink_to(data / "nowhere.png")


def without_mask(data):
    (data / "masks" / "pic_3.png").unlink()


def without_image(data):
    (data / "images" / "pic_3.jpg").unlink()


def empty_list(data):
    (data / "val.txt").write_text("# none yet\n")


def one_image(data):
    for name in NAMES[1:]:
        (data / "images" / f"{name}.jpg").unlink()
        (data / "masks" / f"{name}.png").unlink()


def unknown_name(data):
    (data / "train.txt").write_text("pic_1\npic_99\n")


def in_two_lists(data):
    (data / "train.txt").write_text("pic_1\npic_2\n")
    (data / "val.txt").write_text("pic_2\npic_3\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data.rename(data.with_name("moved")), ["config.data.path=", "images/"]),
        (no_images, ["data/images", "config.data.path", "config.data.folder.images"]),
        (no_masks, ["data/masks", "config.data.path", "config.data.folder.masks"]),
        (without_mask, ["images/pic_3.jpg", "1 of 8", "mask", "config.data.folder.mask_suffix"]),
        (without_image, ["masks/pic_3.png", "1 of 8", "image", "remove"]),
        (other_size, ["images/pic_3.jpg", "40x48", "masks/pic_3.png", "40x47", "one size"]),
        (rgb_mask, ["masks/pic_3.png", "'RGB'", "one 8-bit", "Convert"]),
        (deep_image, ["pic_3", "1 channels of uint16", "3 channels of uint8", "Convert"]),
        (truncated, ["images/pic_3.jpg", "is truncated", "replace"]),
        (text_file, ["masks/pic_3.png", "cannot be read", "replace"]),
        (dead_link, ["masks/pic_3.png", "No such file"]),
        (empty_list, ["val split", "empty", "data'", "list"]),
        (one_image, ["val split", "empty", "config.data.val_fraction=0.1"]),
        (unknown_name, ["train.txt", "'pic_99'", "without suffix"]),
        (in_two_lists, ["train.txt", "val.txt", "'pic_2'", "leave it in one"]),
    ],
)
def test_data(refuse, inside, images, spoil, says):
    spoil(images)
    refuse(*FOLDER, f"--config.data.path={images}", says=says, command=inside)


def test_mask_values_that_are_no_class_and_the_cures(refuse, command, images, folder):
    values = np.zeros((40, 48))
    values[:20], values[:5] = 1, 7
    for name in NAMES[:6]:
        save_mask(images, name, values)
    values[:5] = 200
    for name in NAMES[6:]:
        save_mask(images, name, values)
    (images / "val.txt").write_text("pic_5\npic_7\n")
    flags = [*FOLDER, f"--config.data.path={images}"]
    counts = "0 in 6, 1 in 6, 7 in 5, 200 in 1"
    label_map = "config.data.folder.label_map=((0, 0), (1, 1), (7, 1), (200, 1))"
    ignore = "config.data.folder.ignore_values=(7, 200)"
    says = ["no class: 7, 200", "masks/pic_0.png", "[0, 1]", counts, label_map, ignore]
    refuse(*flags, says=says)

    result = command(*flags, f"--{label_map}", f"--workdir={folder / 'run'}")
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    assert json.loads((folder / "run" / "results.json").read_text())["train"]["step"] == 2


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    """Trains two steps, once for several tests that only read the run."""
    workdir = tmp_path_factory.mktemp("finished")
    result = command(TINY, f"--workdir={workdir}", "--config.train.duration=2")
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return workdir


def refuse_in(command, workdir, *flags, says):
    """Like `refuse`, in a directory where a run already is, which must stay as it was."""
    before = {file: file.stat().st_mtime_ns for file in sorted(workdir.rglob("*"))}
    result = command(*flags, f"--workdir={workdir}")
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert not [piece for piece in says if piece not in result.stderr], result.stderr
    after = {file: file.stat().st_mtime_ns for file in sorted(workdir.rglob("*"))}
    assert after == before


def test_another_config_in_the_same_workdir(command, finished):
    says = [
        "config.optim.learning_rate: 0.003 -> 0.1",
        "config.train.duration: '2' -> '40 steps'",
        str(finished),
        "--overwrite",
    ]
    refuse_in(command, finished, TINY, "--config.optim.learning_rate=0.1", says=says)


def test_overwrite_trains_another_config(command, finished, folder):
    workdir = shutil.copytree(finished, folder / "run")
    flags = [TINY, "--config.train.duration=1", f"--workdir={workdir}", "--overwrite"]
    assert command(*flags).returncode == 0
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["1"]
    assert json.loads((workdir / "config.json").read_text())["train"]["duration"] == "1"


def test_predict_input_that_does_not_exist(inside, finished, folder):
    flags = ["--mode=predict", f"--input={folder / 'no.jpg'}"]
    refuse_in(inside, finished, *flags, says=["--input=", "no.jpg", "does not exist"])


def test_predict_without_input(inside, finished):
    refuse_in(inside, finished, "--mode=predict", says=["--input"])


def test_predict_a_damaged_image(command, finished, images, folder):
    truncated(images)
    flags = ["--mode=predict", f"--input={images / 'images'}", f"--output={folder / 'out'}"]
    result = command(*flags, f"--workdir={finished}")
    assert result.returncode == 5
    assert "images/pic_3.jpg" in result.stdout
    assert "is truncated" in result.stdout
    assert "error: 1 of 8 images could not be read" in result.stderr
    assert len(list((folder / "out").iterdir())) == 2 * 7


@pytest.mark.usefixtures("no_jax")
def test_eval_with_an_unknown_key_in_flags_without_equals_signs(command, finished):
    flags = ["--mode", "eval", "--workdir", finished, "--config.eval.batchsize", "3"]
    result = command(*flags)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: --config.eval.batchsize is not a config key")
    assert (
        f"{finished}/config.json, config.eval has batch_size, figures, headline, metrics, shown"
        in result.stderr
    )


def test_eval_without_a_checkpoint(command, finished, folder):
    (folder / "config.json").write_text((finished / "config.json").read_text())
    result = command("--mode=eval", f"--workdir={folder}")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {folder / 'checkpoints'} holds no checkpoint")
    assert len(result.stderr.splitlines()) == 1


def test_loss_that_is_not_finite(command, folder):
    flags = {
        "optim.accumulate": 4,  # the first update is that of step 4
        "optim.learning_rate": 1e30,
        "optim.warmup": 0,
        "optim.clip_norm": 0.0,
        "train.checkpoint_every": 3,
    }
    workdir = folder / "run"
    given = [f"--config.{key}={value}" for key, value in flags.items()]
    result = command(TINY, *given, f"--workdir={workdir}")
    assert result.returncode == 3, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: the loss is ")
    assert "config.optim.learning_rate" in result.stderr
    assert "at step 5;" in result.stderr
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["3"]

    result = command("--mode=eval", "--checkpoint=latest", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert json.loads((workdir / "results.json").read_text())["val_latest"]["step"] == 3
