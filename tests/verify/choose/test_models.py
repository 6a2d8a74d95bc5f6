"""Which models of a checkout can be trained, and why the others cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.verify import VerifyError
from migrator.verify.choose.models import changed, choose, models_of, one_of
from migrator.verify.choose.scenarios import known_settings
from migrator.verify.train.nodes import digest


def write(tree: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = tree / "torchtitan" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


SPEC = "def get_train_spec():\n    return TrainSpec(model_args=ARGS)\n"

FORK = {
    "models/__init__.py": "_supported_models = frozenset(['llama3', 'tied', 'plain'])\n",
    "models/llama3/__init__.py": "ARGS = {'debugmodel': 1, 'debugmodel_flex': 2, '8B': 3}\n"
    + SPEC,
    "models/tied/__init__.py": "ARGS = {'debugmodel': 1}\n" + SPEC,
    "models/tied/args.py": "class Args:\n    enable_weight_tying: bool = True\n",
    "models/plain/__init__.py": "ARGS = {'8B': 1}\n" + SPEC,
    "models/moe/__init__.py": "",
    "experiments/__init__.py": "_supported_experiments = frozenset(['nested.llama3', 'flux'])\n",
    "experiments/nested/llama3/__init__.py": "from torchtitan.models.llama3 import llama3_args\n"
    + SPEC,
    "experiments/nested/job_config.py": "",
    "experiments/flux/__init__.py": SPEC,
    "experiments/flux/train.py": "",
    "experiments/forge/engine.py": "",
    "experiments/ours/__init__.py": "ARGS = {'debugmodel': 1}\nregister_train_spec('ours_v2', TrainSpec(model_args=ARGS))\n",
}


@pytest.fixture
def fork(tmp_path):
    return write(tmp_path, FORK)


def test_every_model_folder_is_trained_or_has_a_reason(fork):
    found = {title: model.reason for title, model in models_of(fork).items()}
    trained = {title for title, reason in found.items() if not reason}
    assert trained == {
        "llama3",
        "llama3/debugmodel_flex",
        "tied",
        "tied:tied",
        "tied:untied",
        "nested.llama3",
        "nested.llama3/debugmodel_flex",
        "ours_v2",
    }
    assert "no debug flavor" in found["plain"]
    assert "torchtitan/experiments/flux/train.py" in found["flux"]
    assert "torchtitan/experiments/forge/engine.py" in found["experiments/forge"]
    assert "registers no model" in found["models/moe"]


def test_what_the_trainer_has_to_be_told(fork):
    found = models_of(fork)
    assert found["llama3"].settings == {}
    assert found["ours_v2"].settings == {
        "experimental": {"custom_import": "torchtitan.experiments.ours"}
    }
    assert found["nested.llama3"].settings == {
        "job": {"custom_config_module": "torchtitan.experiments.nested.job_config"}
    }
    assert found["tied:untied"].overrides == {"enable_weight_tying": False}
    assert found["tied:untied"].folder_name == "tied-untied"


def test_all_is_one_flavor_of_each_and_both_ways_of_tying(fork):
    titles = [model.title for model in choose(fork, ("all",)) if not model.reason]
    assert titles == ["llama3", "tied:tied", "tied:untied", "nested.llama3", "ours_v2"]


def test_a_wrong_model_is_named_with_the_nearest_and_all_there_are(fork):
    with pytest.raises(
        VerifyError, match="did you mean llama3\\? There are .*tied.*all"
    ):
        choose(fork, ("lama3",))


def test_a_model_named_twice_is_taken_once_and_an_empty_name_not_at_all(fork):
    chosen = choose(fork, ("llama3", "", "tied", "llama3"))
    assert [model.title for model in chosen] == ["llama3", "tied"]
    with pytest.raises(VerifyError, match="No model is named.*llama3"):
        choose(fork, ("", ""))


@pytest.mark.parametrize("text, line", [("ARGS = 1\n\nx = = 1\n", 3), ("x\0", None)])
def test_a_model_that_does_not_parse_has_a_reason(fork, text, line):
    write(fork, {"models/llama3/__init__.py": text})
    reason = models_of(fork)["llama3"].reason
    assert "torchtitan/models/llama3/__init__.py" in reason
    assert "does not parse" in reason
    assert line is None or f"__init__.py:{line} " in reason
    # It imports its flavors from there.
    assert "does not parse" in models_of(fork)["nested.llama3"].reason
    assert not models_of(fork)["tied"].reason


def test_a_name_that_leads_nowhere_has_a_reason(fork):
    listed = (
        "_supported_models = frozenset(['/etc', '../x', 'gone', 'tied', '', None])\n"
    )
    write(fork, {"models/__init__.py": listed, "x/__init__.py": SPEC})
    found = models_of(fork)
    for name in ("/etc", "../x", "gone"):
        assert found[name].reason == f"{name} is registered, but has no folder"
    assert not found["tied"].reason
    assert not {"", "None"} & set(found)


def test_an_annotation_without_a_value_registers_nothing(fork):
    write(fork, {"models/__init__.py": "_supported_models: set\n"})
    found = models_of(fork)
    assert "registers no model" in found["models/llama3"].reason
    assert not found["ours_v2"].reason


def test_what_is_no_file_is_passed_over(fork):
    models, trees = models_of(fork), digest(fork)
    (fork / "torchtitan/models/tied/folder.py").mkdir()
    (fork / "torchtitan/models/tied/dangling.py").symlink_to("nowhere")
    assert models_of(fork) == models
    assert digest(fork) == trees


@pytest.mark.parametrize(
    "text, where", [("class JobConfig:\n    x: = 1\n", ":2 "), ("x = 1\0\n", " ")]
)
def test_a_configuration_that_does_not_parse_is_named(fork, text, where):
    write(fork, {"config/job_config.py": text})
    with pytest.raises(VerifyError, match=f"job_config.py{where}cannot be parsed"):
        known_settings(fork)


PLANS = ["torchtitan/models/tied/parallelize.py", "torchtitan/experiments/flux/plan.py"]


def test_what_is_changed_is_trained(fork):
    found = changed(fork, PLANS)
    assert [model.title for model in found] == ["tied", "flux"]
    assert [model.title for model in one_of(found)] == ["tied"]
    below = [f"third_party/{path}" for path in PLANS]
    assert choose(fork, ("changed",), below) == found


def test_llama3_comes_first_where_it_is_changed(fork):
    found = changed(fork, ["torchtitan/models/llama3/infra/parallelize.py", *PLANS])
    assert [model.title for model in one_of(found[::-1])] == ["llama3"]


def test_what_no_model_has_of_its_own_concerns_all(fork):
    titles = [model.title for model in changed(fork, ["torchtitan/train.py"])]
    assert titles[:2] == ["llama3", "tied"] and "flux" in titles
    assert one_of([model for model in models_of(fork).values() if model.reason]) == []


def test_which_flavors_have_experts(tmp_path):
    experts = "MoEArgs(num_experts=8)"
    write(
        tmp_path,
        {
            "models/__init__.py": "_supported_models = frozenset(['dense', 'moe', 'both'])\n",
            "models/dense/__init__.py": f"ARGS = {{'debugmodel': Args(dim=2)}}\n{SPEC}",
            "models/moe/__init__.py": f"ARGS = {{'debugmodel': Args(moe={experts})}}\n{SPEC}",
            "models/both/__init__.py": "ARGS = {'debugmodel': Args(dim=2), "
            f"'debugmodel_moe': Args(moe_enabled=True, moe={experts})}}\n{SPEC}",
        },
    )
    found = {title: model.experts for title, model in models_of(tmp_path).items()}
    assert found == {
        "dense": False,
        "moe": True,
        "both": False,
        "both/debugmodel_moe": True,
    }
