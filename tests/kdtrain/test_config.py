"""Configuration: one name per setting, recipes that resolve, hashes that identify."""

from importlib.resources import files
from pathlib import Path

import pytest

from kdstore.errors import UnknownNameError, UsageError
from kdtrain.config import Config, read_recipe, resolve, section_of, sections

RECIPES = sorted(Path(file.name).stem for file in files("kdtrain").joinpath("recipes").iterdir())


def test_names_are_unique_and_described():
    keys = [key for section in sections().values() for key in section.model_fields]
    assert len(keys) == len(set(keys))
    for section in sections().values():
        assert all(field.description for field in section.model_fields.values())
    assert section_of("lr") == "optimizer"


def test_defaults_are_those_that_users_know():
    config = Config()
    assert config.model.model_name == "Salesforce/codet5p-220m"
    assert (config.data.batch_size, config.schedule.gradient_accumulation_steps, config.schedule.epochs) == (4, 1, 5)
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.optimizer.clip_norm) == (3e-5, 0.01, 1.0)
    assert (config.data.max_input_len, config.data.max_output_len, config.run.seed) == (512, 128, 42)
    loss = config.loss
    assert (loss.temperature, loss.alpha, config.schedule.warmup_steps) == (4.0, 0.5, 0)
    assert (loss.temperature_decay, loss.final_temperature, loss.temperature_shape) == (True, 1.5, "exponential")
    assert (loss.loss_function, loss.loss_components, loss.loss_weights) == ("multi_component", (), ())
    assert (loss.pans_weight, loss.ast_weight, loss.semantic_loss_scale) == (0.1, 0.1, 5.0)
    assert (loss.enable_dynamic_weighting, loss.normalize_components, loss.enable_token_weighting) == (False,) * 3
    assert loss.critical_token_weight == 2.0


@pytest.mark.parametrize("name", RECIPES)
def test_built_in_recipes_resolve(name):
    assert resolve(read_recipe(name), {}) != Config()


def test_later_sources_win():
    config = resolve({"optimizer": {"lr": 1e-3, "weight_decay": 0.1}}, {"lr": 1e-4})
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-4, 0.1)


def test_hash_identifies_the_configuration():
    assert resolve({}, {"lr": 3e-5}).sha256() == Config().sha256() != resolve({}, {"lr": 1e-5}).sha256()
    assert Config.model_validate_json(Config().to_json()) == Config()


@pytest.mark.parametrize(
    "recipe",
    [
        {"loss": {"alpha": 2}},
        {"loss": {"temperature": "hot"}},
        {"optimizer": {"lr": 0}},
        {"loss": {"loss_function": "focal"}},
        {"loss": {"loss_components": "ce"}},
        {"loss": {"introduce_at": [1.5]}},
        {"loss": {"loss_weights": [-1]}},
        {"loss": {"end_weights": [1e38]}},
    ],
)
def test_bad_values(recipe):
    with pytest.raises(UsageError, match=next(iter(next(iter(recipe.values()))))):
        resolve(recipe, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 1e38), ("weight_decay", 1e38), ("clip_norm", 1e38), ("temperature", 1e38),
        ("final_temperature", 0.0), ("semantic_loss_scale", 1e38), ("critical_token_weight", 1.0),
        *((key, 10**20) for section in sections().values() for key, field in section.model_fields.items()
          if field.annotation in (int, int | None)),
    ],
)  # fmt: skip
def test_numbers_are_bounded(key, value):
    with pytest.raises(UsageError, match=key):
        resolve({}, {key: value})


@pytest.mark.parametrize("part", ["{x}", "{", "}", "{}", "{run.foo}", "{run[0]}", "{run!r}", "{run:>9}", "a\0b"])
def test_the_command_after_training_is_checked_first(part):
    with pytest.raises(UsageError, match="after"):
        resolve({"run": {"after": ["echo", part]}}, {})
    good = ["echo", "{run}/x", "{train}{val}", "{{x}}"]
    assert list(resolve({"run": {"after": good}}, {}).run.after) == good


def test_a_recipe_nested_too_deeply(tmp_path):
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(UsageError, match="TOML"):
        read_recipe(str(tmp_path / "deep.toml"))


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'temperature'"):
        resolve({"loss": {"temprature": 1}}, {})
    with pytest.raises(UnknownNameError, match="Known: data"):
        resolve({"zzz": {}}, {})
