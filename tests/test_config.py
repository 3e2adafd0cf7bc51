"""Configs: from an experiment file to frozen dataclasses, and back."""

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from ml_collections import ConfigDict

from jaxrl import config


@dataclass(frozen=True)
class Schedule:
    steps: int = 1000
    kind: Literal["constant", "cosine"] = "constant"


@dataclass(frozen=True)
class Training:
    learning_rate: float
    epochs: int = 4
    clip: bool = True
    title: str = "x"
    hidden_sizes: tuple[int, ...] = (64, 64)
    interval: tuple[float, float] = (0.0, 1.0)
    decay: float | None = None
    limit: int | str = 1
    schedule: Schedule = Schedule()
    weights: dict[str, float] = field(default_factory=dict)
    warmup: Schedule | None = None
    rest: Any = None

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}; at least 1 is needed")


def fault(values: Any, cls: type = Training) -> str:
    with pytest.raises(ValueError) as error:
        config.build(cls, values)
    return str(error.value)


def test_build_converts_what_the_fields_ask_for():
    values = ConfigDict({"learning_rate": 1, "hidden_sizes": [32, 16], "schedule": {"kind": "cosine"}, "weights": {"a": 2}, "limit": "all"})
    built = config.build(Training, values)
    expected = Training(1.0, hidden_sizes=(32, 16), schedule=Schedule(kind="cosine"), weights={"a": 2.0}, limit="all")
    assert built == expected
    assert type(built.learning_rate) is float and type(built.weights["a"]) is float and type(built.hidden_sizes) is tuple


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [("decay", None, None), ("decay", 1, 1.0), ("warmup", {"steps": 3}, Schedule(3)), ("rest", {"a": [1]}, {"a": (1,)}), ("limit", 3, 3)],
)
def test_build_takes_each_member_of_a_union(name, value, kept):
    assert getattr(config.build(Training, {"learning_rate": 1.0, name: value}), name) == kept


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"learning_rat": 1.0, "learning_rate": 1.0}, "config.learning_rat: unknown; did you mean learning_rate?"),
        ({"learning_rate": 1.0, "schedule": {"step": 3}}, "config.schedule.step: unknown; did you mean steps?"),
        ({"learning_rate": 1.0, "schedule": {"zzz": 3}}, "config.schedule.zzz: unknown; there are steps, kind"),
        ({}, "config.learning_rate: missing; expected float"),
        ({"learning_rate": "0.1"}, "config.learning_rate: expected float, got '0.1' (str)"),
        ({"learning_rate": True}, "config.learning_rate: expected float, got True (bool)"),
        ({"learning_rate": 1.0, "epochs": True}, "config.epochs: expected int, got True (bool)"),
        ({"learning_rate": 1.0, "epochs": 2.0}, "config.epochs: expected int, got 2.0 (float)"),
        ({"learning_rate": 1.0, "clip": 1}, "config.clip: expected bool, got 1 (int)"),
        ({"learning_rate": 1.0, "hidden_sizes": (1, 2.5)}, "config.hidden_sizes[1]: expected int, got 2.5 (float)"),
        ({"learning_rate": 1.0, "hidden_sizes": 3}, "config.hidden_sizes: expected tuple[int, ...], got 3 (int)"),
        ({"learning_rate": 1.0, "interval": (1.0,)}, "config.interval: expected 2 entries, got 1: (1.0,)"),
        ({"learning_rate": 1.0, "decay": "no"}, "config.decay: expected float or None, got 'no' (str)"),
        ({"learning_rate": 1.0, "limit": 1.5}, "config.limit: expected int or str, got 1.5 (float)"),
        ({"learning_rate": 1.0, "schedule": 3}, "config.schedule: expected a section (Schedule), got 3 (int)"),
        (
            {"learning_rate": 1.0, "schedule": {"kind": "cosin"}},
            "config.schedule.kind: expected one of 'constant', 'cosine', got 'cosin' (str)",
        ),
        ({"learning_rate": 1.0, "warmup": {"step": 1}}, "config.warmup.step: unknown; did you mean steps?"),
        ({"learning_rate": 1.0, "weights": {"a": None}}, "config.weights.a: expected float, got None (NoneType)"),
        ({"learning_rate": 1.0, "epochs": 0}, "config: epochs is 0; at least 1 is needed"),
        (3, "config: expected a section (Training), got 3 (int)"),
    ],
)
def test_a_fault_is_one_line_with_its_path(values, line):
    assert fault(values) == line


def test_all_faults_are_reported_together():
    lines = fault({"epoch": 1, "clip": 0, "schedule": {"steps": "many"}}).splitlines()
    assert {line.partition(":")[0] for line in lines} == {"config.epoch", "config.learning_rate", "config.clip", "config.schedule.steps"}


def test_a_field_type_that_no_config_can_hold_is_named():
    @dataclass(frozen=True)
    class Wrong:
        apply: list

    with pytest.raises(TypeError, match=r"config.apply: a config field cannot have the type"):
        config.build(Wrong, {"apply": [1]})


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "ppo_probe.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    return ConfigDict({'algorithm': {'name': 'ppo', 'learning_rate': 1e-3, 'sizes': (8, 8), 'clip': True}, 'seed': 0})\n"
    )
    return path


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("--config.seed=7", None, "seed", 7),
        ("--config.algorithm.learning_rate=3e-4", "algorithm", "learning_rate", 3e-4),
        ("--config.algorithm.sizes=(4,)", "algorithm", "sizes", (4,)),
        ("--config.algorithm.sizes=[4, 5]", "algorithm", "sizes", (4, 5)),
        ("--config.algorithm.clip=false", "algorithm", "clip", False),
        ("--config.algorithm.name=123", "algorithm", "name", "123"),
        ("--config.algorithm.name=a=b", "algorithm", "name", "a=b"),
        ("--config.algorithm.not_in_the_file=none", "algorithm", "not_in_the_file", None),
        ("--config.new_section.epochs=2", "new_section", "epochs", 2),
    ],
)
def test_an_override_sets_one_field(experiment, override, section, key, value):
    loaded = config.load(experiment, [override])
    at = loaded[section] if section else loaded
    assert at[key] == value and type(at[key]) is type(value)
    assert len(config.difference(config.load(experiment), loaded)) == 1


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("--config.algorithm=3", "config.algorithm: is a section; set one of its fields: clip, learning_rate, name, sizes"),
        ("--config.seed.x=3", "config.seed.x: config.seed is a value, not a section"),
        ("--config.seed", "--config.seed: not an override; write --config.section.field=value"),
        ("--seed=3", "--seed=3: not an override; write --config.section.field=value"),
        ("config.seed=3", "config.seed=3: not an override; write --config.section.field=value"),
        ("--config.=3", "--config.=3: not an override; write --config.section.field=value"),
    ],
)
def test_an_override_that_cannot_be_set_is_refused(experiment, override, line):
    with pytest.raises(ValueError) as error:
        config.load(experiment, [override])
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_a_wrong_override_is_found_by_build_with_its_path(experiment):
    loaded = config.load(experiment, ["--config.algorithm.learning_rat=1", "--config.algorithm.learning_rate=fast"])
    cls = dataclasses.make_dataclass("Config", [("name", str), ("learning_rate", float), ("sizes", tuple[int, ...]), ("clip", bool)])
    with pytest.raises(ValueError) as error:
        config.build(cls, loaded.algorithm, "config.algorithm")
    assert str(error.value).splitlines() == [
        "config.algorithm.learning_rat: unknown; did you mean learning_rate?",
        "config.algorithm.learning_rate: expected float, got 'fast' (str)",
    ]


def test_a_missing_experiment_suggests_its_neighbour(experiment):
    with pytest.raises(ValueError, match=r"ppo_prob.py: no such experiment file; did you mean .*ppo_probe.py\?"):
        config.load(experiment.with_name("ppo_prob.py"))


@pytest.mark.parametrize(
    ("text", "line"),
    [("x = 1\n", "has no get_config"), ("def get_config():\n    return {}\n", "must return an ml_collections.ConfigDict, not dict")],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path, text, line):
    path = tmp_path / "other.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=line):
        config.load(path)


def test_a_word_behind_the_file_goes_to_get_config(tmp_path):
    path = tmp_path / "ppo_many.py"
    path.write_text("from ml_collections import ConfigDict\ndef get_config(task='one'):\n    return ConfigDict({'task': task})\n")
    assert config.load(path).task == "one"
    assert config.load(f"{path}:two", ["--config.task=three"]).task == "three"
    assert config.load(f"{path}:two").task == "two"


@pytest.mark.parametrize(("head", "end", "line"), [("", ":two", "takes no word after the colon"), ("task", "", "needs a word after")])
def test_a_word_that_get_config_does_not_take_is_refused(tmp_path, head, end, line):
    path = tmp_path / "ppo_one.py"
    path.write_text(f"def get_config({head}):\n    return None\n")
    with pytest.raises(ValueError, match=line):
        config.load(f"{path}{end}")


@pytest.fixture
def probes(tmp_path, monkeypatch):
    """A package of parts: a good one, one that needs mujoco, one that misses a package of nobody, some that lack a part."""
    package = tmp_path / "probe_parts"
    package.mkdir()
    (package / "__init__.py").touch()
    good = (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config:\n    gain: float = 1.0\ndef {0}(config): return config\n"
    )
    (package / "good.py").write_text(good.format("good"))
    (package / "nameless.py").write_text(good.format("other"))
    (package / "plain.py").write_text("def plain(): pass\n")
    (package / "_hidden.py").write_text("def hidden(): pass\n")
    (package / "needs_mujoco.py").write_text("import mujoco.no_such_module\n" + good.format("needs_mujoco"))
    (package / "broken.py").write_text("import a_package_of_nobody\n" + good.format("broken"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(config.PACKAGES, "probe", "probe_parts")
    yield
    for name in [name for name in sys.modules if name.startswith("probe_parts")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["good", "probe_parts.good"])
def test_resolve_finds_a_module_by_short_and_dotted_name(probes, name):
    cls, factory = config.resolve(name, "probe")
    assert factory(cls(2.0)).gain == 2.0


def test_available_are_those_that_a_config_can_name_read_and_not_imported(probes):
    assert config.available("probe") == ("broken", "good", "needs_mujoco")
    assert not [name for name in sys.modules if name.startswith("probe_parts.")]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("goood", "probe goood: probe_parts has no such module; did you mean good?"),
        ("probe_parts.goood", "probe probe_parts.goood: probe_parts has no such module; did you mean good?"),
        ("zzz", "probe zzz: probe_parts has no such module; there are broken, good, needs_mujoco"),
        (
            "prob_parts.good",
            "probe prob_parts.good: there is no package prob_parts; jaxrl's own are in probe_parts, yours here or installed",
        ),
        (
            "nameless",
            "probe nameless: probe_parts.nameless has no nameless; it needs a dataclass Config and a function nameless(config, ...)",
        ),
        ("", "probe '': not the path of a module"),
    ],
)
def test_resolve_refuses_what_is_not_there(probes, name, line):
    with pytest.raises(ValueError) as error:
        config.resolve(name, "probe")
    assert str(error.value) == line


def test_resolve_says_which_extra_to_install(probes):
    with pytest.raises(ImportError, match=r'needs_mujoco needs mujoco.*pip install "jaxrl\[envs\]"'):
        config.resolve("needs_mujoco", "probe")


def test_resolve_passes_on_an_import_error_of_the_module_itself(probes):
    with pytest.raises(ModuleNotFoundError, match="a_package_of_nobody"):
        config.resolve("broken", "probe")


def test_part_builds_the_section_that_names_it(probes):
    factory, built = config.part(ConfigDict({"name": "good", "gain": 3}), "probe", "config.probe")
    assert factory(built).gain == 3.0
    with pytest.raises(ValueError, match=r"^config.probe.gian: unknown; did you mean gain\?$"):
        config.part({"name": "good", "gian": 3}, "probe", "config.probe")
    with pytest.raises(ValueError, match=r'^config.probe.name: missing; name the probe by its module, such as "probe_parts.broken"$'):
        config.part({"gain": 3}, "probe", "config.probe")


def test_a_config_read_from_json_equals_the_written_one():
    values = ConfigDict({"sizes": (8, [1, 2.0]), "rate": 1.0, "nested": {"flag": True, "nothing": None, "word": "1"}})
    back = config.plain(json.loads(json.dumps(config.plain(values))))
    assert back == {"sizes": (8, (1, 2.0)), "rate": 1.0, "nested": {"flag": True, "nothing": None, "word": "1"}}
    assert config.difference(values, back) == []
    assert config.build(Training, config.plain(Training(1.0))) == Training(1.0)


def test_difference_names_each_changed_key():
    old = {"a": {"b": 1, "c": (1, 2)}, "only_old": "x"}
    new = ConfigDict({"a": {"b": 1.0, "c": (1, 2)}, "only_new": {"d": None}})
    assert config.difference(old, new) == [
        "config.a.b: 1 -> 1.0",
        "config.only_new.d: absent -> None",
        "config.only_old: 'x' -> absent",
    ]
    assert config.difference(old, old) == []


def test_infinity_goes_through_json_and_the_command_line():
    values = ConfigDict({"learning_rate": float("inf"), "interval": (-float("inf"), 1.0)})
    written = json.dumps(config.plain(values), allow_nan=False)
    built = config.build(Training, json.loads(written))
    assert (built.learning_rate, built.interval) == (float("inf"), (-float("inf"), 1.0))
    assert json.dumps(config.plain(built), allow_nan=False)
    assert config.build(Training, {"learning_rate": 1.0, "limit": "inf"}).limit == "inf"
    assert config.build(Training, {"learning_rate": "inf", "decay": "inf"}).decay == float("inf")
    assert fault({"learning_rate": "nan"}) == "config.learning_rate: expected float, got 'nan' (str)"
