"""Plans for TPUs that are not there; what libtpu has to compile is skipped where it is missing."""

import json
import math
import re
import runpy
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from support.paths import ROOT

from unet_jax import sharding
from unet_jax.errors import UserError
from unet_jax.experiment import assemble, step_shapes
from unet_jax.models.fast import choice
from unet_jax.models.options import Options
from unet_jax.plan import elsewhere, memory, tpu
from unet_jax.plan.chips import parse_topology
from unet_jax.plan.compiled import Compiled, Held, from_json, read_held, to_json
from unet_jax.plan.elsewhere import images_at
from unet_jax.plan.program import Collective, Program, read_program
from unet_jax.plan.tables import print_largest
from unet_jax.process import target
from unet_jax.process.console import console

MIB, GIB = 2**20, 2**30
needs_libtpu = pytest.mark.skipif(
    not tpu.is_installed(), reason="libtpu is not installed: pip install 'unet-jax[tpu]'"
)


def tiny(**changes):
    """Returns the page tiny.py with one convolution where it has two, and other values."""
    config = runpy.run_path(str(ROOT / "configs" / "tiny.py"))["get_config"]()
    once = {"model__repeats": (1,), "model__decoder_repeats": (1,)}
    with config.unlocked():
        for key, value in (once | changes).items():
            section, name = key.split("__")
            config[section][name] = value
    return config


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("v5e:2x4", (2, 4)), ("v5e:16x16", (16, 16)), ("v5e:1x1", (1, 1)), ("v6e:6x10", (6, 10)),
        ("v4:2x2x1", (2, 2, 1)), ("v4:1x1x1", (1, 1, 1)), ("v5p:4x4x8", (4, 4, 8)),
    ],
)  # fmt: skip
def test_names_of_topologies(name, shape):
    found = parse_topology(name)
    assert (found.name, found.family, found.shape) == (name, name.split(":")[0], shape)


@pytest.mark.parametrize(
    "name",
    [
        "", "v5e", "v5e:", "v5e:8", "v5e:3x3", "v5e:1x8", "v5e:2x4x1", "v5e:-2x4", "v5e:2x0",
        "v5e:32x32", "v5p:2x2", "v4:2x2", "v3:2x2", "h100:9", "v5e:2x4 ", "v5e:2x٤", "v6e:2x999999",
    ],
)  # fmt: skip
def test_what_is_no_topology_is_said(name):
    with pytest.raises(UserError) as error:
        parse_topology(name)
    for part in (f"--topology={name} ", "v5e:AxB", "v5p:AxBxC", "even", "such as v5e:2x4"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_refusals_of_the_compiler():
    text = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
    text += "temporaries (19.63G) exceeds available HBM (15.75G)."
    assert tpu.read_refusal(text) == (round(19.63 * GIB), 63 * GIB // 4)
    text = "Ran out of memory in memory space hbm. Used 820.50M of 15.75G hbm. Exceeded"
    assert tpu.read_refusal(text) == (round(820.5 * MIB), 63 * GIB // 4)
    assert tpu.read_refusal("INTERNAL: out of memory") is None


def test_sizes_that_are_tried():
    sizes = [images_at(index) for index in range(23)]
    assert sizes[:13] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16]
    assert sizes[13:] == [20, 24, 28, 32, 40, 48, 56, 64, 80, 96]
    assert images_at(2**31) > 2**40  # and no number that takes memory


def made(size, total, is_refused=False):
    program = Program(1e9, 1000, {"all-reduce": Collective(1, 2, 3)}, 4)
    if is_refused:
        return Compiled(size, None, None, total, None, 1.0)
    return Compiled(size, Held(0, 0, 0, 0, total, 0), program, None, total, 1.0)


def search_with(monkeypatch, need, there, limit=None, before=(), **changes):
    """Searches with a compiler that needs bytes by images, and refuses more than there are."""
    config, done = tiny(**changes), []

    def compile_elsewhere(experiment, topology, begin):
        size = experiment.plan.batch_size
        if size not in before:
            begin()
        return made(size, need(size), is_refused=need(size) > there)

    monkeypatch.setattr(elsewhere, "compile_elsewhere", compile_elsewhere)
    now = assemble(config)
    done.append(elsewhere.compile_elsewhere(now, None, str))
    found = elsewhere.largest_batch(config, now, None, done, limit or there, limit)
    return found, [one.batch_size for one in done]


def test_the_largest_batch_of_three_compilations(monkeypatch):
    found, tried = search_with(monkeypatch, lambda n: 5 * MIB + n * MIB, 100 * MIB)
    assert found == (80, True)  # 8 devices take 64, 80 or 96: 85 MiB or 101
    assert {80, 96} < set(tried)
    # Where a batch takes less than in line, as its last tries may find; no more than three.
    found, tried = search_with(monkeypatch, lambda n: round(n**0.5 * MIB), 40 * MIB)
    assert len(tried) <= 1 + elsewhere.TRIES
    assert found[0] == max(n for n in tried if n**0.5 <= 40)
    found, tried = search_with(monkeypatch, lambda n: n * MIB, MIB)
    assert found == (0, True)


def test_the_same_search_again_goes_on(monkeypatch):
    def need(size):  # far from a line
        return round(size**0.3 * MIB)

    before = []
    for _ in range(9):
        (size, is_exact), tried = search_with(monkeypatch, need, 9 * MIB, before=before)
        assert len(set(tried) - {8} - set(before)) <= elsewhere.TRIES
        if is_exact:
            break
        assert set(tried) > set(before)
        before = tried
    assert len(before) > elsewhere.TRIES
    assert size == max(8 * images_at(i) for i in range(40) if need(8 * images_at(i)) <= 9 * MIB)


def test_what_is_said_of_each_batch(capsys):
    sizes = {32: 1 * GIB, 896: 6 * GIB, 2048: 11 * GIB}
    done = [made(n, total)._replace(peak=total - 256 * MIB) for n, total in sizes.items()]
    done.append(made(4096, 17 * GIB, is_refused=True))
    print_largest(done, 2048, is_exact=False, limit=16 * GIB)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "the largest batch that fits 16.00 GiB: at least 2048"
    assert said[2] == "  896: 6.00 GiB, 5.75 GiB of it at once, compiled in 1 s"
    line = np.polyval(np.polyfit([896, 2048], [6, 11], 1), 4096)
    refused = "refused by the compiler, which says it needs 17.00 GiB; in line with those that"
    assert said[4] == f"  4096: {refused} compiled {line:.2f} GiB"


def test_a_limit_of_the_user_holds_before_the_compiler_refuses(monkeypatch):
    found, tried = search_with(monkeypatch, lambda n: n * MIB, 1000 * MIB, 40 * MIB)
    assert found == (40, True)
    assert 48 in tried


def test_only_what_the_mesh_divides_is_tried(monkeypatch):
    changes = {"mesh__data": 2, "mesh__space": 4}
    found, tried = search_with(monkeypatch, lambda n: n * MIB, 27 * MIB, **changes)
    assert found == (24, True)
    assert all(n % 2 == 0 for n in tried)


@pytest.mark.parametrize("found", [made(8, 100), made(16, 200, is_refused=True)])
def test_what_was_found_is_kept_as_it_is(found):
    kept = json.loads(json.dumps(to_json(found)))
    assert from_json(kept) == found


def test_gpus_are_estimated(monkeypatch, tmp_path):
    config = tiny(train__batch_size=4)
    with console.capture() as capture:
        elsewhere.plan_elsewhere(config, "h100:4", workdir=tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert "an estimate: the program is that for CPU" in capture.get()
    assert (plan["memory"], plan["mesh"]["data"]) == (80 * 10**9, 4)
    (one,) = plan["compiled"]
    # Forward the convolutions; backward twice that, but once for the first; and what else there is.
    first, rest = 9 * 3 * 4 * 32**2, 9 * 4 * 8 * 16**2 + 4 * 8 * 4 * 16**2 + (9 * 8 + 6) * 4 * 32**2
    assert 1 < one["program"]["flops"] / (2 * (2 * first + 3 * rest)) < 2.5
    assert one["held"]["batch"] == 32 * 32 * 5
    # CPU's program may send the four sums of a normalisation by column of pixels, 32 of 4 channels
    # and 16 of 8, and eight sampled numbers; and one scalar more.
    by_column = 4 * (3 * (4 * 128 + 8) + LOSS + KERNELS + 6 + 4 + 3)
    assert SUMS <= one["program"]["collectives"]["all-reduce"]["size"] <= by_column
    least = one["least_seconds"]
    assert least["computing"] == one["program"]["flops"] / 989e12
    for name in ("h100:0", "h100:9", "h100:2x2", "a100"):
        with pytest.raises(UserError, match="1 to 8 of a100"):
            parse_topology(name)


def chips(count, per_process=4):
    return [SimpleNamespace(platform="tpu", process_index=i // per_process) for i in range(count)]


def test_forms_and_options_are_those_of_the_target(monkeypatch):
    x = jax.ShapeDtypeStruct((8, 4, 4, 3), np.float32)
    remat = Options(num_classes=2, remat=(0,))
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert choice._is_narrow(x)
    assert choice.compiler_options(remat)
    assert choice.init_options() or "level" in str(choice.os.environ["XLA_FLAGS"])
    with target.compiling_for(chips(8)):
        assert not choice._is_narrow(x)
        assert choice.compiler_options(remat) is None
        assert choice.init_options() == {}
        assert (target.platform(), target.device_count(), target.process_count()) == ("tpu", 8, 2)
        with pytest.raises(UserError, match="uses 4 of the 8 devices of 2 processes"):
            sharding.make_shardings(data=4)
    assert (target.platform(), target.device_count()) == ("cpu", 1)


def test_without_libtpu_a_line_says_what_to_install(command, monkeypatch):
    monkeypatch.setattr(tpu.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("pip install 'unet-jax[tpu]'")):
        tpu.open_devices(parse_topology("v5e:2x4"))
    done = command("--mode=plan", "--topology=v5e:3x3", "--config=configs/tiny.py")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --topology=v5e:3x3 is none that can be compiled for")


def step_of(monkeypatch, **mesh):
    """Compiles the step of a small net, all of whose kernels of 256 numbers are split by fsdp."""
    monkeypatch.setattr(sharding, "LEAST_SPLIT", 256)
    devices = tpu.open_devices(parse_topology("v5e:2x4"))
    with target.compiling_for(devices):
        experiment = assemble(tiny(**mesh))
        return experiment, memory.compile_step(experiment)


# By hand, float32: each of the three normalisations, of 4, 8 and 4 channels, sums a sample, values
# and squares forward, and two gradients backward; the loss 6, 6, 6 and 1 sums; then the gradients
# of the kernels, and of the biases of the head and the way up, and two scalars.
NORMS, LOSS = 5 * (4 + 8 + 4), 6 + 6 + 6 + 1
KERNELS = 9 * 3 * 4 + 9 * 4 * 8 + 9 * 8 * 4 + 4 * 8 * 4 + 4 * 6
SUMS = 4 * (NORMS + LOSS + KERNELS + 6 + 4 + 2)
ALL_REDUCES = 3 * 3 + 2 + 1


@needs_libtpu
def test_arguments_and_collectives_of_data(monkeypatch):
    experiment, compiled = step_of(monkeypatch)
    assert read_program(compiled).collectives == {
        "all-reduce": Collective(ALL_REDUCES, SUMS, pytest.approx(SUMS * 2 * 7 / 8, abs=12))
    }
    # One image on each of eight chips: 3 bytes a pixel, label and weight. The state is whole.
    arrays = jax.tree.leaves(experiment.state_shapes)
    held = read_held(step_shapes(experiment), compiled)
    assert held.batch == np.zeros((1, 32, 32, 5), np.uint8).nbytes
    assert held.parameters + held.optimizer == sum(
        np.zeros(x.shape, x.dtype).nbytes for x in arrays
    )
    # What they are laid out in, by the layout of each argument: tiles of rows and columns.
    layouts = re.search(r"entry_computation_layout=\{\((.*?)\)->", compiled.as_text())[1]
    padded = 0
    for dtype, sides, order, tile in re.findall(
        r"(\w+)\[([\d,]*)\]\{([\d,]*):T\(([\d,]+)\)", layouts
    ):
        sides, order, tile = ([int(n) for n in x.split(",") if n] for x in (sides, order, tile))
        sides = [1] * (len(tile) - len(sides)) + [sides[axis] for axis in order[::-1]]
        for place, side in enumerate(tile, len(sides) - len(tile)):
            sides[place] = math.ceil(sides[place] / side) * side
        padded += math.prod(sides) * (4 if "32" in dtype else 1)
    assert layouts.count("[") == len(arrays) + 4  # image, label, weight and key
    assert compiled.memory_analysis().argument_size_in_bytes == padded
    assert held.padding == padded - held.parameters - held.optimizer - held.batch


@needs_libtpu
def test_collectives_of_fsdp(monkeypatch):
    _, compiled = step_of(monkeypatch, mesh__data=1, mesh__fsdp=8)
    split = 9 * 4 * 8 + 9 * 8 * 4  # gathered in bfloat16, as convolutions take them
    found = read_program(compiled).collectives
    assert found["all-gather"] == Collective(2, 2 * split, 2 * split * 7 // 8)
    # The norm of the gradient sums a number of each split kernel too.
    assert found["all-reduce"][:2] == (ALL_REDUCES, SUMS + 4 * 2)
    assert set(found) == {"all-gather", "all-reduce"}


@needs_libtpu
def test_collectives_of_space(monkeypatch):
    _, compiled = step_of(monkeypatch, mesh__data=1, mesh__space=8)
    # A row of all 8 images from above and below, for each 3x3 convolution, and backward for each
    # but the first; in bfloat16.
    forward, backward = 32 * 3 + 16 * 4 + 32 * 8, 16 * 8 + 32 * 4
    found = read_program(compiled).collectives
    rows = 2 * 8 * 2 * (forward + backward)
    assert found["collective-permute"] == Collective(2 * (3 + 2), rows, rows)
    assert found["all-reduce"][:2] == (ALL_REDUCES, SUMS)
    assert set(found) == {"collective-permute", "all-reduce"}


@needs_libtpu
def test_the_compiler_has_the_last_word(monkeypatch, tmp_path):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(elsewhere, "TRIES", 0)
    config = tiny(data__image_size=(256, 256), train__batch_size=2**14)
    said = []
    for _ in range(2):
        with console.capture() as capture:
            elsewhere.plan_elsewhere(config, "v5e:1x1", workdir=tmp_path / "plan")
        said.append(capture.get())
    plan = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert plan["largest_batch"] == {"size": 0, "is_exact": False}
    assert plan["memory"] == 63 * GIB // 4  # what it leaves of 16 GiB
    (one,) = plan["compiled"]
    assert one["refused"] > 4 * 2**14 * 256**2 * 4  # one activation of four channels
    assert "the compiler refuses 16384 images of 256x256, mesh data=1" in said[0]
    assert "compiling for v5e:1x1" in said[0]
    assert "a batch of 16384: compiled before" in said[1]
