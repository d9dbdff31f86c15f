import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.paths import ROOT

from unet_jax.errors import UserError
from unet_jax.studies.naming import factors_of, make_trial, make_trials
from unet_jax.studies.pages import load_study, make_config
from unet_jax.studies.study import (
    Point,
    Study,
    among,
    choices,
    grid,
    integers,
    log_uniform,
    point_of,
    quasi_points,
    random_points,
    seeds,
    uniform,
    union,
    values,
    zipped,
)

PAGE = "configs/tiny.py"
STUDIES = sorted(set(ROOT.glob("experiments/studies/*.py")) - set(ROOT.glob("**/small_pets.py")))
UPS = choices("up", {"2 0 2": {}, "bi/linear": {"model.up": "bilinear"}})


def names(study: Study, **kwargs) -> list[str]:
    return [trial.name for trial in make_trials(study, **kwargs)]


def test_a_grid_is_every_combination_the_last_varying_fastest():
    points = grid(UPS, values("optim.learning_rate", 1e-3, 3e-3), seeds((5, 7)))
    assert [p.labels["seed"] for p in points] == ["5", "7"] * 4
    assert [p.labels["learning_rate"] for p in points] == ["0.001", "0.001", "0.003", "0.003"] * 2
    assert [p.labels["up"] for p in points] == ["2 0 2"] * 4 + ["bi/linear"] * 4
    assert points[-1].overrides == {
        "model.up": "bilinear",
        "optim.learning_rate": 3e-3,
        "train.seed": 7,
    }
    assert len({str(point) for point in points}) == 8


def test_zipped_is_pairwise_and_union_drops_what_came_before():
    points = zipped(values("a.x", 1, 2), values("a.y", "p", "q"))
    assert points == [
        Point({"x": "1", "y": "p"}, {"a.x": 1, "a.y": "p"}),
        Point({"x": "2", "y": "q"}, {"a.x": 2, "a.y": "q"}),
    ]
    assert union(values("a.x", 1, 2), values("a.x", 2, 3)) == values("a.x", 1, 2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zipped(seeds(2), values("a.x", 1)), r"of one length; these have \[2, 1\] points"),
        (lambda: grid(seeds(2), seeds(2)), "two designs have the factor 'seed'"),
        (
            lambda: grid(UPS, choices("other", {"x": {"model.up": "nearest"}})),
            "two designs have the config key 'model.up'",
        ),
        (lambda: values("seed", 1), "'seed' is no config key; write SECTION.KEY"),
        (lambda: values("train.seed"), "give one or more values, each once; found"),
        (lambda: values("train.seed", 1, 1), r"each once; found \['1', '1'\]"),
        (lambda: choices("up", {}), r"choices\('up'\) has no options"),
        (lambda: log_uniform(0, 1), r"log_uniform\(0, 1\): both must be above 0"),
        (lambda: uniform(2, 1), r"uniform\(2, 1\): the first must be below the second"),
        (lambda: integers(0.5, 1), "both must be whole numbers"),
        (lambda: among(1, 1), "give one or more values, each once"),
        (lambda: random_points(1, 0, {"a.x": among(1), "b.x": among(1)}), "the factor 'x'"),
        (lambda: make_trials(Study(PAGE)), "the study's design has no points"),
        (
            lambda: make_trials(Study(PAGE, seeds(2), baseline={"seeds": "0"})),
            "baseline: 'seeds' is no factor of the design; it has seed",
        ),
        (
            lambda: make_trials(Study(PAGE, seeds(2), baseline={"seed": "2"})),
            "baseline: seed='2' is not in the design; its labels are '0', '1'",
        ),
        (
            lambda: make_trials(
                Study(PAGE, zipped(UPS, seeds(2)), baseline={"up": "2 0 2", "seed": "1"})
            ),
            "baseline: no point of the design has all of",
        ),
        (
            lambda: make_trials(Study(PAGE, seeds(2)), {"train.seed": 1}),
            "train.seed is varied by the study's design, so it cannot be set for all",
        ),
        (
            lambda: make_trials(Study(PAGE, values("a.x", object()))),
            "is no value of a config page; use numbers",
        ),
    ],
)
def test_mistakes_are_one_line(make, message):
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_names_are_those_of_factors_and_a_hash_of_what_is_run():
    first, second = names(Study(PAGE, grid(UPS, seeds(1))))
    assert re.fullmatch(r"up=2-0-2,seed=0_[0-9a-f]{8}", first)
    assert re.fullmatch(r"up=bi-linear,seed=0_[0-9a-f]{8}", second)
    # Also in another process, whose hashes of strings differ, and another order of overrides.
    code = (
        "from unet_jax.studies.study import *; from unet_jax.studies.naming import make_trials; "
        "d = [Point({'up': 'bi/linear', 'seed': '0'}, {'train.seed': 0, 'model.up': 'bilinear'})];"
        f"print(make_trials(Study({PAGE!r}, d))[0].name)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == second
    assert first.rpartition("_")[2] == "f7c7c7b2", "folders of earlier versions are found again"


def test_what_changes_no_result_is_not_in_the_hash():
    study = Study(PAGE, seeds(1))
    given = {"data.source": "folder", "data.path": "/x", "data.workers": 7}
    (trial,) = make_trials(study, given)
    assert trial.name == names(study)[0]
    assert trial.overrides == {**given, "train.seed": 0}
    assert trial.factors == {"seed": "0"}
    assert names(study, base={"train.batch_size": 4}) != names(study)
    assert names(Study("configs/shapes.py", seeds(1))) != names(study)
    # As a factor it counts, or its trials would be one.
    assert len(set(names(Study(PAGE, values("data.workers", 1, 2))))) == 2


def test_equal_trials_are_one_and_whole_floats_are_numbers():
    same = choices("up", {"page": {}, "again": {}, "other": {"model.up": "nearest"}})
    assert [t.factors["up"] for t in make_trials(Study(PAGE, same))] == ["page", "other"]
    hashes = [
        names(Study(PAGE, values("a.x", value)))[0].rpartition("_")[2] for value in (1, 1.0, 2)
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    lists = [make_trial(Study(PAGE), Point({}, {"a.x": x})).name for x in ((1, 2), [1, 2], (2, 1))]
    assert lists[0] == lists[1] != lists[2]


def test_long_names_are_cut_and_still_differ():
    study = Study(PAGE, values("a.x", "y" * 200 + "1", "y" * 200 + "2"))
    first, second = names(study)
    assert len(first) == len(second) == 129
    assert first[:120] == second[:120]
    assert first != second


def test_set_wins_over_the_study_and_a_point_over_both():
    study = Study(PAGE, values("a.x", 1), overrides={"a.x": 0, "a.y": 0, "a.z": 0})
    (trial,) = make_trials(study, {"a.y": 1})
    assert trial.overrides == {"a.x": 1, "a.y": 1, "a.z": 0}


def test_factors_keep_the_order_of_labels():
    trials = make_trials(Study(PAGE, grid(values("a.x", "z", "b"), seeds(2))))
    assert factors_of(trials) == {"x": ["z", "b"], "seed": ["0", "1"]}


def test_ranges_keep_their_bounds_and_their_distribution():
    ranges = {
        "a.rate": log_uniform(1e-4, 1e-1),
        "a.decay": uniform(-1, 3),
        "a.depth": integers(2, 5),
        "a.up": among("p", ("q", 1)),
    }
    points = random_points(4000, 0, ranges)
    assert points == random_points(4000, 0, ranges)
    drawn = {key: [point.overrides[key] for point in points] for key in ranges}
    logs = np.log10(drawn["a.rate"])
    assert logs.min() >= -4
    assert logs.max() <= -1
    np.testing.assert_allclose(np.quantile(logs, [0.25, 0.5, 0.75]), [-3.25, -2.5, -1.75], atol=0.1)
    np.testing.assert_allclose(np.quantile(drawn["a.decay"], [0.25, 0.75]), [0, 2], atol=0.1)
    counts = np.unique(drawn["a.depth"], return_counts=True)
    assert counts[0].tolist() == [2, 3, 4, 5]
    np.testing.assert_allclose(counts[1], 1000, atol=120)
    assert {type(x) for x in drawn["a.depth"]} == {int}
    assert set(drawn["a.up"]) == {"p", ("q", 1)}
    for point in points[:50]:
        assert float(point.labels["rate"]) == point.overrides["a.rate"]
    for span in ranges.values():
        assert span.at(0.0) == span.options[0]
        assert span.at(math.nextafter(1, 0)) == span.options[-1]


def test_quasi_points_fill_every_cell_once():
    ranges = {"a.x": uniform(0, 1), "a.y": uniform(0, 1)}
    points = quasi_points(16, 3, ranges)
    found = np.array([list(point.overrides.values()) for point in points])
    for columns in (16, 4, 1):  # a (0, 4, 2)-net in base 2
        cells = np.floor(found * [columns, 16 // columns]).astype(int)
        assert len({tuple(cell) for cell in cells}) == 16
    assert quasi_points(5, 3, ranges) == points[:5]
    assert quasi_points(16, 4, ranges) != points
    assert quasi_points(1, 3, ranges) == points[:1]


def test_point_of_names_factors_by_their_keys():
    assert point_of({"a.x": 1, "b.y": "t"}) == Point({"x": "1", "y": "t"}, {"a.x": 1, "b.y": "t"})


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_ready_studies_make_configs_of_their_page(file):
    study = load_study(file)
    trials = make_trials(study)
    factors = factors_of(trials)
    assert len(factors["seed"]) == 3
    assert len(trials) == math.prod(map(len, factors.values()))
    assert study.baseline
    configs = [make_config(study.page, trial.overrides) for trial in trials]
    assert len({config.to_json() for config in configs}) == len(trials)
    command = f"python -m experiments.sweep --study=experiments/studies/{file.name} --workdir=runs/"
    text = file.read_text()
    assert command in text
    assert "It can say" in text
    assert "It cannot say" in text


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_ready_studies_make_models(file):
    import jax
    import jax.numpy as jnp

    from unet_jax.config import call
    from unet_jax.models.unet import UNet

    study = load_study(file)
    seen = set()
    for trial in make_trials(study):
        config = make_config(study.page, trial.overrides)
        model = call(UNet, "config.model", config.model, num_classes=3)
        if str(model) not in seen:
            seen.add(str(model))
            image = jax.ShapeDtypeStruct((1, *config.data.image_size, 3), jnp.float32)
            jax.eval_shape(lambda x, m=model: m.init(jax.random.key(0), x, train=False), image)


def test_sizes_have_equal_flops_as_their_page_says():
    import jax
    import jax.numpy as jnp

    from unet_jax.models.anatomy import forward_flops
    from unet_jax.models.unet import UNet

    file = ROOT / "experiments/studies/size.py"
    study, found = load_study(file), {}
    for trial in make_trials(study):
        if trial.factors["seed"] == "0":
            config = make_config(study.page, trial.overrides)
            model, shape = UNet(3, **config.model), (1, *config.data.image_size, 3)
            variables = jax.eval_shape(
                lambda m=model, s=shape: m.init(jax.random.key(0), jnp.zeros(s), train=False)
            )
            count = sum(x.size for x in jax.tree.leaves(variables["params"]))
            found[trial.factors["levels"]] = forward_flops(model, variables, shape), count
    flops = [x for x, _ in found.values()]
    assert max(flops) / min(flops) < 1.05
    for levels, (x, count) in found.items():
        line = next(
            line for line in file.read_text().splitlines() if line.startswith(f"{levels}  ")
        )
        assert line.endswith(f"{x / 1e6:.1f} {count:>11,}"), (line, x, count)


def test_what_is_no_study(tmp_path):
    page = tmp_path / "study.py"
    with pytest.raises(UserError, match=r"^--study=.*study\.py is no file; give a study page"):
        load_study(page)
    mistakes = {
        "": r"has no function get_study\(\)",
        "x = (": "SyntaxError",
        "def get_study(): return 3": r"returned an object of type int; it must return a Study",
        "def get_study(): return 1 / 0": "ZeroDivisionError: division by zero",
        "from unet_jax.studies.study import *\n"
        "def get_study(): return zipped(seeds(1), seeds(2))": (
            r"study\.py, line 2: zipped\(\) takes designs of one length"
        ),
    }
    for text, message in mistakes.items():
        page.write_text(text)
        with pytest.raises(UserError, match=message) as error:
            load_study(page)
        assert str(page) in str(error.value)


def test_studies_import_no_jax():
    code = (
        "import sys; from pathlib import Path; from unet_jax.studies import naming, pages; "
        "from unet_jax.studies.sweep import __main__; "
        f"s = pages.load_study(Path({str(STUDIES[0])!r})); naming.make_trials(s); "
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    assert Path(STUDIES[0]).exists()
