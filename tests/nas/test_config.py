"""Settings: the papers' defaults, who wins over whom, and what a wrong one is answered with."""

import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nas.commands.command_line import settings_parser
from nas.config import PRESETS, SearchConfig, TrainConfig, build_config, config_to_yaml, read_preset, read_settings
from search_spaces.errors import InputError

COMMANDS = {"search": SearchConfig, "train": TrainConfig}
both = pytest.mark.parametrize("command", COMMANDS)


def test_the_defaults_of_a_search_are_the_papers():
    config = SearchConfig()
    assert (config.data, config.order, config.epochs, config.batch_size) == ("cifar10", 2, 50, 64)
    assert (config.channels, config.layers, config.crop_padding, config.gradient_clip) == (16, 8, 4, 5)
    assert (config.learning_rate, config.learning_rate_min, config.momentum) == (0.025, 0.001, 0.9)
    assert (config.weight_decay, config.alpha_learning_rate, config.alpha_weight_decay) == (3e-4, 3e-4, 1e-3)


def test_the_defaults_of_a_training_are_the_papers():
    config = TrainConfig()
    assert (config.data, config.epochs, config.batch_size, config.weight_decay) == ("cifar10", 600, 96, 3e-4)
    assert (config.channels, config.layers, config.crop_padding, config.gradient_clip) == (36, 20, 4, 5)
    assert (config.learning_rate, config.learning_rate_min, config.momentum) == (0.025, 0, 0.9)
    assert (config.auxiliary, config.auxiliary_weight, config.cutout, config.drop_path) == (True, 0.4, 16, 0.2)


@both
def test_every_preset_is_valid_for_both_commands_and_the_papers_changes_nothing(command):
    configs = {name: build_config(COMMANDS[command], [(name, read_preset(name, command))]) for name in PRESETS}
    assert configs["paper"] == COMMANDS[command]()
    assert configs["quick"].data == "digits" and configs["cpu"].data == "cifar10"
    assert configs["quick"].epochs < configs["paper"].epochs > configs["cpu"].epochs


def test_a_file_has_settings_for_both_commands_and_for_either(tmp_path):
    path = tmp_path / "both.yaml"
    path.write_text("seed: 3\nepochs: 9\nsearch:\n  epochs: 5\ntrain:\n")
    assert read_settings(path, "search") == {"seed": 3, "epochs": 5}
    assert read_settings(path, "train") == {"seed": 3, "epochs": 9}
    path.write_text("# nothing yet\n")
    assert read_settings(path, "train") == {}


@both
def test_all_settings_survive_being_written_and_read(command, tmp_path):
    kind = COMMANDS[command]
    config = kind(data="a folder: ünïcode #1", seed=7, learning_rate=1e-5, plugin=("a.py", "b.py"), flip=False)
    path = tmp_path / "config.yaml"
    path.write_text(config_to_yaml(config), encoding="utf-8")
    assert build_config(kind, [("file", read_settings(path, command))]) == config
    assert yaml.safe_load(path.read_text(encoding="utf-8")).keys() == kind.model_fields.keys()


@both
def test_every_setting_has_a_flag_spelled_with_dashes_and_a_description(command):
    kind = COMMANDS[command]
    parser = settings_parser("program", "", kind)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    assert {"--" + name.replace("_", "-") for name in kind.model_fields} <= flags
    assert not [flag for flag in flags if "_" in flag]
    assert all(field.description for field in kind.model_fields.values())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("epochs: '3'", 3),
        ("learning_rate: 1e-3", 0.001),  # YAML 1.1 reads this one as a text
        ("order: '1'", 1),
        ("auxiliary: no", False),
        ("plugin: ghost.py", ("ghost.py",)),
        ("flip: null", None),
        ("momentum: 0", 0.0),
    ],
)
def test_a_value_may_be_written_as_people_write_it(text, value, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    name = text.split(":")[0]
    kind = TrainConfig if name == "auxiliary" else SearchConfig
    assert getattr(build_config(kind, [("file", read_settings(path, "search"))]), name) == value


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epoch": 3}, ('unknown setting "epoch"', 'did you mean "epochs"?', "batch_size")),
        ({"zzz": 3}, ('unknown setting "zzz"; known: ', "alpha_learning_rate")),
        ({5: 3}, ('unknown setting "5"', "known: ")),
        ({"cutout": 8}, ('"cutout" is a setting of the other command', "train:")),
        ({"epochs": "many"}, ("epochs is 'many'", "it should be a valid integer", "passes over")),
        ({"epochs": 2.5}, ("epochs is 2.5", "integer")),
        ({"epochs": None}, ("epochs is None", "integer")),
        ({"epochs": True}, ("epochs is True", "a number, not true or false")),
        ({"epochs": [3]}, ("epochs is [3]", "integer")),
        ({"epochs": 0}, ("epochs is 0", "greater than or equal to 1")),
        ({"layers": 2}, ("layers is 2", "greater than or equal to 3")),
        ({"batch_size": 1}, ("batch_size is 1", "greater than or equal to 2")),
        ({"order": 3}, ("order is 3", "should be 1 or 2")),
        ({"order": "second"}, ("order is 'second'", "should be 1 or 2")),
        ({"order": True}, ("order is True",)),
        ({"seed": -1}, ("seed is -1", "greater than or equal to 0")),
        ({"momentum": 1}, ("momentum is 1", "less than 1")),
        ({"learning_rate": 0}, ("learning_rate is 0", "greater than 0")),
        ({"learning_rate": "nan"}, ("learning_rate is 'nan'", "greater than 0")),
        ({"weight_decay": float("inf")}, ("weight_decay is inf", "finite")),
        ({"image_size": 3}, ("image_size is 3", "greater than or equal to 4")),
        ({"data": 10}, ("data is 10", "valid string")),
        ({"flip": "sideways"}, ("flip is 'sideways'", "valid boolean")),
        ({"plugin": 3}, ("plugin is 3", "a Python file")),
        ({"stop_after": 0}, ("stop_after is 0", "minutes")),
    ],
    ids=str,
)
def test_a_wrong_setting_is_one_line_that_says_where_it_is_from(values, words, refused):
    with refused("--config my.yaml: ", *words):
        build_config(SearchConfig, [("preset cpu", {"epochs": 4}), ("--config my.yaml", values)])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"epochs: [1", ("not valid YAML",)),
        (b"epochs: 1\n  seed: 2", ("not valid YAML",)),
        (b"\xff\xfe\x00", ("not valid YAML",)),
        (b"- epochs", ("is not a YAML mapping",)),
        (b"just words", ("is not a YAML mapping",)),
        (b"epochs: 1\nepochs: 2", ('"epochs" stands twice',)),
        (b"search: 3", ("search is 3", "mapping of names to values")),
        (b"seed: 1\ntrain: [a]", ("train is ['a']",)),
    ],
    ids=str,
)
def test_a_file_that_is_not_settings_is_named_in_one_line(content, words, tmp_path, refused):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with refused("my.yaml", *words):
        read_settings(path, "search")


def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, refused):
    with refused("cannot read settings", "missing.yaml", "No such file"):
        read_settings(tmp_path / "missing.yaml", "search")
    with refused("cannot read settings", "Is a directory"):
        read_settings(tmp_path, "search")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
likely = st.dictionaries(
    st.sampled_from(["search", "train", *SearchConfig.model_fields, *TrainConfig.model_fields]), values
)


@given(
    st.text() | st.binary() | likely.map(yaml.safe_dump) | values.map(yaml.safe_dump), st.sampled_from(list(COMMANDS))
)
def test_any_file_is_settings_or_an_input_error(tmp_path_factory, content, command):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    settings_or_one_line(path, command)


numbers = st.integers(-10, 10**6) | st.floats(0, 1) | st.sampled_from(["1e-3", "cpu", "auto", True, False, None])


@given(st.data(), st.sampled_from(list(COMMANDS)))
def test_settings_of_any_likely_value_survive_their_file_or_are_an_input_error(tmp_path_factory, data, command):
    kind = COMMANDS[command]
    chosen = data.draw(st.dictionaries(st.sampled_from(sorted(kind.model_fields)), numbers, max_size=4))
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(yaml.safe_dump(chosen), encoding="utf-8")
    settings_or_one_line(path, command)


def settings_or_one_line(path, command):
    kind = COMMANDS[command]
    try:
        config = build_config(kind, [(str(path), read_settings(path, command))])
    except InputError as error:
        assert "\n" not in str(error) and set(str(error)) - set(string.whitespace)
    else:
        path.write_text(config_to_yaml(config), encoding="utf-8")
        assert build_config(kind, [(str(path), read_settings(path, command))]) == config
