"""Pages that go wrong: one line with the file and the line; and configs of runs as pages."""

import pytest
from ml_collections import ConfigDict
from support.paths import ROOT

from unet_jax import command_line
from unet_jax.config import SECTIONS, check_sections, to_json
from unet_jax.errors import UserError
from unet_jax.page import load_page
from unet_jax.studies.pages import load_study, make_config, parse_overrides

# Text of a page whose function is NAME, the line to name, and what is said of it.
PAGES = {
    "raises at once": ("x = 1\nraise ValueError('a\\nb')\n", 2, "ValueError: a b"),
    "raises": ("def NAME():\n    x = 1\n    return x.y\n", 3, "AttributeError: 'int' object"),
    "raises elsewhere": ("import json\ndef NAME():\n  json.loads('')\n", 3, "JSONDecodeError: "),
    "raises an error of ours": (
        "from unet_jax.errors import UserError\ndef NAME():\n    raise UserError('no recipe')\n",
        3,
        "no recipe",
    ),
    "an exit code like ours": ("class E(Exception): exit_code = 0\nraise E('x')\n", 2, "E: x"),
    "recurses": ("def NAME():\n    return NAME()\n", 2, "RecursionError: maximum recursion"),
    "exits": ("import sys\n\ndef NAME():\n    sys.exit(0)\n", 4, "SystemExit: 0"),
    "exits at once": ("raise SystemExit\n", 1, "SystemExit:"),
    "imports what is missing": ("\nimport no_such_module\n", 2, "ModuleNotFoundError: No module"),
    "syntax": ("def NAME():\n    x = = 1\n", 2, "SyntaxError: invalid syntax"),
    "a tab": ("def NAME():\n    x = 1\n\treturn x\n", 3, "TabError: inconsistent use"),
    "has none": ("x = 1\n", None, "has no function NAME()"),
    "no function": ("NAME = 5\n", None, "has no function NAME()"),
    "returns None": ("\n\ndef NAME():\n    pass\n", 3, "NAME() returned an object of type None"),
    "returns a dict": ("def NAME():\n    return {}\n", 1, "NAME() returned an object of type dict"),
    "wants an argument": ("\ndef NAME(x):\n    return x\n", 2, "TypeError: NAME() missing 1"),
    "long": ("raise ValueError('x ' * 9999)\n", 1, "ValueError: x x"),
    "binary": ("\0\1\2", None, "null bytes"),
    "other text": ("x = '\udcff'\n", None, "SyntaxError: (unicode error)"),
}


@pytest.mark.parametrize(("read", "name"), [(load_page, "get_config"), (load_study, "get_study")])
@pytest.mark.parametrize("case", PAGES)
def test_one_line_names_the_page_and_its_line(tmp_path, read, name, case):
    text, line, says = PAGES[case]
    file = tmp_path / "page.py"
    file.write_text(text.replace("NAME", name), errors="surrogateescape")
    with pytest.raises(UserError) as error:
        read(str(file) if read is load_page else file)
    said = command_line.one_line(error.value)
    assert said.startswith(f"{file}, line {line}: " if line else str(file)), said
    assert says.replace("NAME", name) in said
    assert len(said) < 600


def test_a_page_of_a_study_likewise(tmp_path):
    file = tmp_path / "page.py"
    file.write_text("def get_config():\n    return {}['a']\n")
    with pytest.raises(UserError, match=rf"^{file}, line 2: KeyError: 'a'$"):
        make_config(str(file), {})


def test_ctrl_c_in_a_page_is_one(tmp_path):
    (tmp_path / "page.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_page(str(tmp_path / "page.py"))


def test_a_page_may_print_and_define_what_it_wants(tmp_path, capsys):
    (tmp_path / "page").write_text(
        "from __future__ import annotations\n"
        "import dataclasses\n"
        "from ml_collections import ConfigDict\n"
        "@dataclasses.dataclass\n"
        "class Rate:\n    value: float = 0.5\n"
        "def get_config(recipe='a'):\n    print('hello')\n"
        "    return ConfigDict({'recipe': recipe, 'rate': Rate().value, 'file': __file__})\n"
    )
    config = load_page(f"{tmp_path}/page:b:c")
    assert config.to_dict() == {"recipe": "b:c", "rate": 0.5, "file": f"{tmp_path}/page"}
    assert capsys.readouterr().out == "hello\n"
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "--config= is no file"),
        ("nothing.py", "nothing.py is no file; give a config page"),
        ("x" * 5000, "is no file"),
        (".", "is a folder that holds no run; give"),
        ("nothing.json", "nothing.json does not exist"),
        ("null", "is no file"),
    ],
)
def test_what_is_no_page(tmp_path, name, says):
    (tmp_path / "null").symlink_to("/dev/null")
    with pytest.raises(UserError) as error:
        load_page(f"{tmp_path}/{name}" if name else name)
    assert says in str(error.value)


def test_the_config_of_a_run_and_its_folder_are_pages(tmp_path):
    config = load_page(f"{ROOT}/configs/tiny.py")
    run = tmp_path / "run:1"
    run.mkdir()
    (run / "config.json").write_text(to_json(config))
    for text in (str(run), f"{run}/config.json"):
        assert load_page(text).to_dict() == config.to_dict()
    (run / "config.json").write_text("[1]")
    with pytest.raises(UserError, match=r"config\.json is not a config that a run wrote"):
        load_page(str(run))


def test_values_nested_too_deep_for_python():
    deep = "-" * 50_000 + "1"
    with pytest.raises(UserError, match=r"--config\.model\.features is nested too deeply"):
        parse_overrides("configs/tiny.py", ["train.seed=1", f"model.features={deep}"])


@pytest.mark.parametrize(
    ("study", "says"),
    [
        ("Study(5)", "Study(page=5) must be a text, such as 'configs/oxford_pets.py:cpu'."),
        ("Study('p', 5)", "Study(design=5) must be points, made by grid(...)"),
        ("Study('p', [5])", "Study(design=[5]) must be points"),
        ("Study('p', [Point({'a': 1}, {})])", "must be points"),
        ("Study('p', [Point({}, 5)])", "must be points"),
        ("Study('p', overrides={5: 1})", "Study(overrides={5: 1}) must be values by config key."),
        ("Study('p', overrides=None)", "Study(overrides=None) must be values"),
        ("Study('p', baseline={'a': 1})", "Study(baseline={'a': 1}) must be labels by factor"),
        ("Study('p', search={'a.b': (0, 1)})", "Study(search={'a.b': (0, 1)}) must be ranges"),
        ("Study('p', seeds(10**30))", "line 3: seeds() would make 1,000,000,000,0"),
        ("Study('p', random_points(10**12, 0, {}))", "random_points() would make 1,000,000,0"),
        ("Study('p', quasi_points(-1, 0, {}))", "line 3: quasi_points() would make -1 points"),
        ("Study('p', grid(*[seeds(99)] * 3))", "line 3: grid() would make 970,299 points; 100,000"),
    ],
)
def test_what_is_no_study(tmp_path, study, says):
    file = tmp_path / "page.py"
    names = "Point, Study, grid, quasi_points, random_points, seeds"
    text = f"from unet_jax.studies.study import {names}\ndef get_study():\n    return {study}\n"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load_study(file)
    assert says in str(error.value)
    assert str(file) in str(error.value)


def test_a_trial_of_a_value_that_no_config_holds():
    with pytest.raises(UserError, match=r"config\.train\.seed is an integer of 100 bits"):
        make_config("configs/tiny.py", {"train.seed": 10**30})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({0.5: 1}, r"config.model.x has the key 0.5; a key must be a text. Instead of a dict,"),
        ({"y": {1, 2}}, r"config.model.x.y is of type set; a value must be"),
        ("a\0b", r"config.model.x='a\x00b' has a NUL"),
        ("\ud800", r"config.model.x='\ud800' is no text that UTF-8 can write."),
        ("x" * 5000, "config.model.x is a text of 5,000 letters; 4,096 is the most."),
        ((1,) * 5000, "config.model.x has 5,000 values; 4,096 is the most."),
        (((("a", (5.0, (None,))),),), None),
        ((((((((1,),),),),),),), "is nested deeper than 8; no value is."),
        (-(2**64), "config.model.x is an integer of 65 bits; 64 is the most."),
        (b"x", "config.model.x is of type bytes"),
        (1j, "config.model.x is of type complex"),
        ((2**64 - 1, True, -0.5, None, "\N{SNOWMAN}"), None),
    ],
)
def test_values_that_a_config_can_hold(value, says):
    config = ConfigDict({name: {} for name in SECTIONS})
    config.model = ConfigDict({"x": value}, convert_dict=False)
    if says is None:
        check_sections(config)
    else:
        with pytest.raises(UserError) as error:
            check_sections(config)
        assert says in str(error.value)
