"""Layers of a configuration: later ones win, every value knows where it comes from, idle values are refused."""

import tomllib

import pytest
from click.testing import CliRunner

from kdstore.errors import KDError, UnknownNameError, UsageError
from kdtrain.cli import main
from kdtrain.config import Config, Layer, built_in, combine, read_preset, read_recipe, section_of, sections
from kdtrain.kinds import STUDENT, TEACHER, configure
from kdtrain.show import as_toml, listing

KINDS = {"student": STUDENT, "teacher": TEACHER}
# Values of a parameter at each layer, from the lowest.
LAYERS = ("recipe", "preset", "option", "set")


def student(**options):
    return configure(STUDENT, options)


@pytest.fixture
def layered(tmp_path):
    """The configuration with some layers that each give ``warmup_steps`` a value of its own."""

    def build(present):
        options = {}
        for number, name in enumerate(LAYERS, start=1):
            if name not in present:
                continue
            if name == "option":
                options["warmup_steps"] = number
            elif name == "set":
                options["assignments"] = (f"schedule.warmup_steps={number}",)
            else:
                path = tmp_path / f"{name}.toml"
                path.write_text(f"[schedule]\nwarmup_steps = {number}\n")
                options[name] = str(path)
        return student(**options)

    return build


@pytest.mark.parametrize("chosen", range(1, 16))
def test_the_latest_layer_wins_and_is_named(layered, chosen, tmp_path):
    present = [name for bit, name in enumerate(LAYERS) if chosen >> bit & 1]
    resolved = layered(present)
    assert resolved.config.schedule.warmup_steps == LAYERS.index(present[-1]) + 1
    assert resolved.source("warmup_steps") == {
        "recipe": f"recipe {tmp_path / 'recipe.toml'}",
        "preset": f"preset {tmp_path / 'preset.toml'}",
        "option": "--warmup-steps",
        "set": "--set schedule.warmup_steps",
    }[present[-1]]  # fmt: skip
    assert resolved.source("epochs") == "default"


def test_every_parameter_can_be_set():
    for section, kind in sections().items():
        for name in kind.model_fields:
            value = getattr(getattr(Config(), section), name)
            layer = Layer({name: value}, {name: "here"})
            assert combine([layer]).source(name) == "here"
            assert section_of(name) == section


def test_where_a_model_or_components_are_named_what_lower_layers_say_of_them_is_forgotten(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[model]\nfrom_scratch = "tiny"\n[loss]\nloss_components = ["ce"]\nloss_weights = [2.0]\n')
    kept = student(recipe=str(recipe))
    assert (kept.config.model.from_scratch, kept.config.loss.loss_weights) == ("tiny", (2.0,))
    over = student(recipe=str(recipe), preset="code_quality_focused", model_name="mine")
    assert over.config.model.from_scratch is None
    assert over.source("from_scratch") == "default"
    assert over.config.loss.loss_weights == (1.0, 1.0, 0.05, 0.3, 0.2)
    assert over.source("loss_weights") == "preset code_quality_focused"
    named = student(preset="code_quality_focused", loss_function="traditional")
    assert (named.config.loss.loss_components, named.config.loss.loss_weights) == ((), ())


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("schedule.epochs=7", "epochs", 7),
        ("schedule.max-steps = 7", "max_steps", 7),
        ("optimizer.lr=1e-4", "lr", 1e-4),
        ("model.model_name=some/model", "model_name", "some/model"),
        ('model.model_name="a=b"', "model_name", "a=b"),
        ("model.model_name=a\nb = 1", "model_name", "a\nb = 1"),
        ("data.ram_limit=256MiB", "ram_limit", 256 * 2**20),
        ("loss.normalize_components=true", "normalize_components", True),
        ("loss.loss_weights=[1, 2.5, 0]", "loss_weights", (1, 2.5, 0)),
        ('run.after=["echo", "{run}"]', "after", ("echo", "{run}")),
        ("data.mix=[3, 1]", "mix", (3, 1)),
        ("validation.validator=none", "validator", "none"),
        ("schedule.max_steps=none", "max_steps", None),
        ("model.model_name=none", "model_name", "none"),
    ],
)
def test_set_takes_toml_or_a_bare_word(text, key, value):
    assert student(assignments=(text,)).value(key) == value


def test_none_takes_a_value_back_however_it_is_said(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[schedule]\nmax_steps = 5\n")
    assert student(recipe=str(recipe)).value("max_steps") == 5
    for options in ({"max_steps": "none"}, {"assignments": ("schedule.max_steps=none",)}):
        assert student(recipe=str(recipe), **options).value("max_steps") is None
    recipe.write_text('[schedule]\nmax_steps = "none"\n')
    assert student(recipe=str(recipe)).value("max_steps") is None
    result = CliRunner().invoke(main, ["show-config", "--max-steps", "none", "--toml"])
    assert "max_steps" not in tomllib.loads(result.stdout)["schedule"]
    assert "'some'" in CliRunner().invoke(main, ["show-config", "--max-steps", "some"]).stderr


def test_of_two_assignments_the_later_counts():
    assert student(assignments=("schedule.epochs=7", "schedule.epochs=8")).value("epochs") == 8


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"assignments": ("optimiser.lr=1",)}, UnknownNameError, "Did you mean 'optimizer'"),
        ({"assignments": ("optimizer.lrr=1",)}, UnknownNameError, "Did you mean 'lr'"),
        ({"assignments": ("loss.lr=1",)}, UnknownNameError, r"key of \[loss\]"),
        ({"assignments": ("lr=1",)}, UsageError, "Write optimizer.lr="),
        ({"assignments": ("optimizer.lr",)}, UsageError, "SECTION.KEY=VALUE"),
        ({"assignments": ("schedule.epochs=0",)}, UsageError, "--set schedule.epochs. Got 0"),
        ({"assignments": ("schedule.epochs=many",)}, UsageError, "--set schedule.epochs. Got 'many'"),
        ({"assignments": ("data.ram_limit=" + "[" * 100_000,)}, UsageError, "--set data.ram_limit"),
        ({"assignments": ("model.vocab_size=500",)}, UsageError, "no --set model.vocab_size, which a student"),
        ({"assignments": ("loss.alpha=2",)}, UsageError, "--set loss.alpha. Got 2"),
        ({"preset": "quick_strat"}, UnknownNameError, "Did you mean 'quick_start'"),
        ({"recipe": "java_studnt"}, UnknownNameError, "Did you mean 'java_student'"),
        ({"model_name": "a", "assignments": ("model.from_scratch=tiny",)}, UsageError, "both"),
        ({"assignments": ('run.after=["echo", "{rows}"]',)}, UsageError, "only a teacher has"),
        ({"dtype": "bf16", "fp16": True}, UsageError, "--fp16 or --dtype"),
        ({"pin_memory": False}, UsageError, "--pin-memory True"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        student(**options)


IDLE = [
    ({"pans_weight": 0.2}, "without pans among the components focal, jsd, semantic"),
    ({"pans_max_n": 2}, "without pans"),
    ({"pans_decay": 0.5}, "without pans"),
    ({"ast_weight": 0.2}, "without ast"),
    ({"ast_samples": 3}, "without ast"),
    ({"loss_function": "traditional", "semantic_loss_scale": 2.0}, "without semantic"),
    ({"loss_function": "traditional", "semantic_embedding": "mini"}, "without semantic"),
    ({"loss_function": "traditional", "focal_gamma": 1.0}, "without focal"),
    ({"loss_function": "traditional", "focal_alpha": 1.0}, "without focal"),
    ({"contrastive_temperature": 1.0}, "without contrastive"),
    ({"contrastive_embedding": "codebert"}, "without contrastive"),
    ({"loss_components": ("ce",), "temperature": 2.0}, "compares with a teacher"),
    ({"loss_components": ("ce",), "accept_infidelity": True}, "compares with a teacher"),
    ({"loss_components": ("ce",), "max_angle": 20.0}, "compares with a teacher"),
    ({"loss_components": ("semantic", "pans"), "alpha": 0.2}, "divides the weight"),
    ({"loss_function": "enhanced", "pans_weight": 0.2, "loss_weights": (1, 1, 1)}, "with other weights"),
    ({"end_weights": (1, 1, 1)}, "without --enable-dynamic-weighting"),
    ({"weight_shape": "cosine"}, "without --enable-dynamic-weighting"),
    ({"temperature_decay": False, "final_temperature": 2.0}, "with --no-temperature-decay"),
    ({"temperature_decay": False, "temperature_shape": "linear"}, "with --no-temperature-decay"),
    ({"critical_token_weight": 3.0}, "without --enable-token-weighting"),
    ({"warmup_steps": 10, "warmup_ratio": 0.1}, "with --warmup-steps"),
    ({"early_stopping_delta": 0.1}, "without --early-stopping-patience"),
    ({"recipe": "quickstart_student", "use_enhanced_metrics": True}, "without --validator"),
    ({"recipe": "quickstart_student", "validation_samples": 10}, "without --validator"),
    ({"epoch_sampling": "rows"}, "without --epoch-samples"),
]


@pytest.mark.parametrize(("options", "words"), IDLE, ids=str)
def test_a_value_without_effect_is_refused_however_it_is_given(options, words):
    idle = list(options)[-1] if "with other" not in words else "pans_weight"
    with pytest.raises(UsageError, match=rf"no --{idle.replace('_', '-')} .*{words}"):
        student(**options)
    value = options[idle]
    written = f'"{value}"' if isinstance(value, str) else str(value).lower().replace("(", "[").replace(")", "]")
    rest = {name: one for name, one in options.items() if name != idle}
    with pytest.raises(UsageError, match=rf"no --set {section_of(idle)}\.{idle} .*{words}"):
        student(**rest, assignments=(f"{section_of(idle)}.{idle}={written}",))


@pytest.mark.parametrize(("options", "words"), IDLE, ids=str)
def test_a_recipe_may_hold_it(options, words, tmp_path):
    """Recipes and presets are written for more than one use."""
    idle = list(options)[-1] if "with other" not in words else "pans_weight"
    value = options[idle]
    written = f'"{value}"' if isinstance(value, str) else str(value).lower().replace("(", "[").replace(")", "]")
    preset = tmp_path / "preset.toml"
    preset.write_text(f"[{section_of(idle)}]\n{idle} = {written}\n")
    rest = {name: one for name, one in options.items() if name != idle}
    assert student(**rest, preset=str(preset)).source(idle) == f"preset {preset}"


def test_warm_up_steps_of_zero_leave_the_ratio_its_effect():
    assert student(warmup_steps=0, warmup_ratio=0.1).config.schedule.warmup_ratio == 0.1


def test_a_teacher_learns_from_labels_alone_whatever_recipe_and_preset_say():
    for preset in (None, *built_in("preset")):
        resolved = configure(TEACHER, {"preset": preset})
        loss = resolved.config.loss
        assert (loss.loss_components, loss.loss_weights, loss.alpha) == (("ce",), (), 1)
        assert not loss.enable_dynamic_weighting
        assert resolved.source("alpha") == "teachers"


@pytest.mark.parametrize("preset", [None, *built_in("preset")])
@pytest.mark.parametrize("recipe", built_in("recipe"))
def test_the_toml_of_a_configuration_gives_it_again(recipe, preset, tmp_path):
    kind = KINDS[recipe.partition("_")[2]]
    options = {"seed": 7, "output": None, "assignments": ("run.after=['a\"b', 'é\\\\ \U0001f600', '{{']",)}
    before = configure(kind, {"recipe": recipe, "preset": preset, **options})
    path = tmp_path / "again.toml"
    path.write_text(as_toml(before), encoding="utf-8")
    assert configure(kind, {"recipe": str(path)}).config.sha256() == before.config.sha256()
    assert before.source("seed") == "--seed"


def test_control_characters_survive_toml(tmp_path):
    before = configure(STUDENT, {"assignments": ('run.after=["\\u0001\\u007f\\n\\u0085"]',)})
    assert before.config.run.after == ("\x01\x7f\n\x85",)
    assert tomllib.loads(as_toml(before))["run"]["after"] == ["\x01\x7f\n\x85"]


def test_the_listing_has_every_parameter_once():
    lines = list(listing(configure(STUDENT, {"preset": "high_quality", "lr": 1e-4})))
    keys = [line.split()[0] for line in lines if not line.startswith("[")]
    assert keys == [name for kind in sections().values() for name in kind.model_fields]
    assert next(line for line in lines if line.split()[0] == "lr").split() == ["lr", "0.0001", "--lr"]


@pytest.mark.parametrize("name", built_in("preset"))
def test_presets_change_something_and_say_for_whom(name):
    from importlib.resources import files

    text = files("kdtrain").joinpath("presets", f"{name}.toml").read_text(encoding="utf-8")
    assert text.startswith("# For ")
    config = student(preset=name).config
    changed = [key for table in read_preset(name).values() for key in table]
    plain = student(recipe="quickstart_student")
    assert all(plain.value(key) != getattr(getattr(config, section_of(key)), key) for key in changed)


def test_recipes_say_nothing_that_is_the_default():
    for name in built_in("recipe"):
        for section, table in read_recipe(name).items():
            for key, value in table.items():
                assert getattr(getattr(Config(), section), key) != value, f"{name}: {key}"


def test_errors_are_those_of_the_tree():
    with pytest.raises(KDError):
        configure(STUDENT, {"recipe": "nothing"})
