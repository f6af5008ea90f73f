"""What ``kdtrain student`` says of its loss: components, their weights, what they need of a store."""

import csv
import json

import pytest
from click.testing import CliRunner

from kdtrain.cli import main
from kdtrain.config import LossConfig

from .test_commands import fails


@pytest.fixture
def run(dense_stores, model_dir, tmp_path):
    """One step of ``kdtrain student`` on stores that serve every loss; arguments stand before and after the store."""

    def call(*arguments, before=(), name="run", stores=dense_stores):
        words = [
            "student", *before, stores[0].root, "--val", stores[1].root, "--output-dir", tmp_path / name,
            "--model-name", model_dir, "--device", "cpu", "--max-steps", 1, "--no-after", *arguments,
        ]  # fmt: skip
        return CliRunner().invoke(main, [str(word) for word in words])

    return call


@pytest.fixture
def losses(run, tmp_path):
    """The same, which must succeed: the loss section of config.json, and the row of the step."""

    def call(*arguments, before=(), name="run"):
        result = run(*arguments, before=before, name=name)
        assert result.exit_code == 0, result.stderr
        with (tmp_path / name / "step_metrics.csv").open() as file:
            (row,) = csv.DictReader(file)
        return json.loads((tmp_path / name / "config.json").read_text())["loss"], row

    return call


def weights(row):
    """The components of a logged step, with their weights."""
    return {name.removesuffix("_weight"): float(row[name]) for name in row if name.endswith("_weight")}


def test_the_default_is_three_components(losses):
    config, row = losses()
    assert config == LossConfig().model_dump(mode="json")
    assert config["loss_function"] == "multi_component"
    assert weights(row) == {"focal": 0.5, "jsd": 0.5, "semantic": 0.05}
    assert row["temperature"] == "4"


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("traditional", {"ce": 0.5, "kl": 0.5}),
        ("enhanced", {"ce": 0.5, "kl": 0.5, "pans": 0.1}),
        ("ast_enhanced", {"ce": 0.5, "kl": 0.5, "ast": 0.1}),
    ],
)
def test_each_preset_trains(losses, preset, expected):
    config, row = losses("--loss-function", preset)
    assert config["loss_function"] == preset
    assert weights(row) == expected
    assert all(float(row[f"{name}_loss_raw"]) >= 0 for name in expected)


@pytest.mark.parametrize(
    "spelling",
    [
        ["--loss-components", "focal", "jsd", "contrastive"],
        ["--loss_components", "focal", "jsd", "contrastive"],
        ["--loss_components", "focal,jsd,contrastive"],
        ["--loss-components", "focal, jsd , contrastive"],
        ["--loss-components=focal,jsd,contrastive"],
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_components_in_one_word_or_several(losses, spelling, place):
    """Wherever they stand: the word behind them that is no component is the store."""
    config, row = losses(before=spelling) if place == "before" else losses(*spelling)
    assert config["loss_components"] == ["focal", "jsd", "contrastive"]
    assert weights(row) == {"focal": 0.5, "jsd": 0.5, "contrastive": 0.1}


def test_weights_in_one_word_or_several(losses):
    for name, spelling in (("several", [0.4, "6e-1"]), ("one", ["0.4,0.6"])):
        config, row = losses("--loss-components", "ce", "kl", "--loss-weights", *spelling, "--alpha", 0.25, name=name)
        assert config["loss_weights"] == [0.4, 0.6]
        assert weights(row) == pytest.approx({"ce": 0.1, "kl": 0.45})


def test_naming_components_or_a_preset_forgets_what_the_recipe_says_of_others(losses, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[loss]\nloss_components = ["focal", "jsd", "semantic"]\nloss_weights = [1.0, 2.0, 3.0]\n')
    config, row = losses("--recipe", recipe, name="recipe")
    assert config["loss_weights"] == [1, 2, 3]
    config, row = losses("--recipe", recipe, "--loss-components", "ce", "kl", name="components")
    assert (config["loss_components"], config["loss_weights"]) == (["ce", "kl"], [])
    config, row = losses("--recipe", recipe, "--loss-function", "traditional", "--loss-weights", 2, 1, name="preset")
    assert (config["loss_components"], config["loss_weights"]) == ([], [2, 1])
    assert weights(row) == {"ce": 1, "kl": 0.5}


def test_the_temperature_may_stay(losses):
    config, row = losses("--no-temperature-decay", "--temperature", 3)
    assert (config["temperature"], config["temperature_decay"], row["temperature"]) == (3, False, "3")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--loss-components", "focal,jdd"], 2, ["'jdd'", "Did you mean 'jsd'"]),
        (["--loss-components", "focl"], 2, ["'focl'", "Did you mean 'focal'"]),
        (["--loss-components", "ce", "ce"], 2, ["each loss component once", "ce, ce"]),
        (["--loss-components", "ce", "kl", "--loss-weights", "1"], 2, ["ce, kl", "--loss-weights", "Got 1"]),
        (["--loss-weights", "1", "2"], 2, ["focal, jsd, semantic", "--loss-weights", "Got 2"]),
        (["--enable-dynamic-weighting", "--end-weights", "1,2,3,4"], 2, ["--end-weights", "Got 4"]),
        (["--end-weights", "1"], 2, ["no --end-weights", "--enable-dynamic-weighting"]),
        (["--pans-weight", "1", "--enable-dynamic-weighting"], 2, ["no --pans-weight"]),
        (["--final-temperature", "2", "--no-temperature-decay"], 2, ["no --final-temperature"]),
        (["--critical-token-weight", "3"], 2, ["no --critical-token-weight", "--enable-token-weighting"]),
        (["--loss-components", "kl", "--enable-token-weighting"], 2, ["ce or focal"]),
        (["--loss-components", "focal", "contrastive", "--batch-size", "1"], 2, ["at least 2 rows"]),
        (["--introduce-at", "0.5"], 2, ["--introduce-at", "Got 1"]),
        (["--introduce-at", "0", "0", "1"], 2, ["introduce_at"]),
        (["--loss-weights", "0", "0", "0"], 2, ["a weight", "Got none"]),
        (["--loss-weights", "-1", "1", "1"], 2, ["loss_weights"]),
        (["--critical-token-weight", "5"], 2, ["critical_token_weight"]),
        (["--semantic-embedding", "mimi"], 7, ["'semantic'", "Got mini", "--semantic-embedding"]),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_one_line(run, tmp_path, arguments, code, words):
    fails(run(*arguments), code, *words)
    assert not (tmp_path / "run").exists()


def test_numbers_that_are_none(run):
    result = run("--loss-weights", "a,b")
    assert result.exit_code == 2
    assert "'a,b' is not numbers" in result.stderr


def test_a_list_without_a_value(run):
    assert run("--loss-components").exit_code == 2


def test_a_store_without_embeddings_cannot_serve_semantic(run, make_store, tmp_path):
    from kdstore.schema import Schema

    def bare(name, rows):
        full = make_store(tmp_path / f"full-{name}", 8, codec="dense", texts=True).head.schema_
        schema = Schema(fields=tuple(field for field in full.fields if not field.name.startswith("embeddings/")))
        return make_store(tmp_path / name, rows, codec="dense", schema=schema, texts=True)

    stores = bare("train.kd", 40), bare("val.kd", 8)
    words = ["'semantic'", "train.kd", "Got none", "--embed", "--loss-components"]
    fails(run(stores=stores), 7, *words)
    assert not (tmp_path / "run").exists()
    assert run("--loss-components", "focal", "jsd", stores=stores).exit_code == 0


def test_candidates_cannot_serve_a_temperature_that_falls(run, stores, tmp_path):
    fails(run(stores=stores), 7, "--no-temperature-decay", "--codec lowrank", "from 4")
    fails(run("--final-temperature", 2, stores=stores), 7, "--no-temperature-decay", "from 4 down to 2")
    assert not (tmp_path / "run").exists()
    assert run("--no-temperature-decay", name="constant", stores=stores).exit_code == 0
    # 1 is below where it would fall to.
    assert run("--temperature", 1, name="cold", stores=stores).exit_code == 0


def test_the_worst_temperature_on_the_way_decides(run, make_store, tmp_path):
    measured = [("kl", 1.0, 4.0), ("kl", 2.0, 46.6), ("kl", 4.0, 3.0)]
    found = tuple(
        make_store(tmp_path / f"{name}.kd", 40, codec="dense", fidelity=measured, texts=True)
        for name in ("train", "val")
    )
    traditional = ("--loss-function", "traditional")
    words = ("at T = 4 to 1.5", "46.6 degrees", "at T = 2", "--no-temperature-decay")
    fails(run(*traditional, stores=found), 7, *words)
    assert run(*traditional, "--no-temperature-decay", stores=found).exit_code == 0
