"""A configuration is parsed once and strictly. Errors name the key, the value and the next move."""

from __future__ import annotations

import contextlib
import copy
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trainables.config.base import Part
from trainables.config.io import dump_config, load_config, parse_config
from trainables.config.loss import LOSSES, losses_of
from trainables.config.trial import TrialConfig
from visionsweep.core.errors import ConfigError, Contradiction
from visionsweep.core.names import METRICS, METRICS_OF_TASK
from visionsweep.core.tasks import TASKS

ABSENT = object()
CONFIG: dict[str, Any] = {
    "task": "multiclass",
    "model": {"backbone": "resnet18", "head": {"name": "mish_mlp", "hidden": 32}},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "schedule": {"name": "cosine"},
    "augment": {"rotate": {"degrees": 5.0}, "mix": {"name": "mixup"}},
    "epochs": 10,
    "batch_size": 32,
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    node = config
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    if value is ABSENT:
        del node[last]
    return config


def of_task(task: str) -> dict[str, Any]:
    """Return a configuration of that task.

    A segmenter has an architecture, and moves pixels only with their labels.
    """
    config = with_value("task", task)
    if task == "segmentation":
        model = {"architecture": {"name": "unet"}, "backbone": "resnet18"}
        return {**config, "model": model, "augment": {"rotate": {"degrees": 5.0}}}
    return config


def message_of(config: dict[str, Any], **origin: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(config, **origin)
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        # a key that nobody knows, at every depth
        ("bach_size", 1, "unknown key 'bach_size'. Did you mean 'batch_size'?"),
        ("model.bakbone", 1, "unknown key 'model.bakbone'. Did you mean 'backbone'?"),
        ("model.head.hiden", 1, "unknown key 'model.head.hiden'. Did you mean 'hidden'?"),
        ("optimizer.momentun", 0.9, "unknown key 'optimizer.momentun'. Did you mean 'momentum'?"),
        ("augment.rotat", None, "unknown key 'augment.rotat'. Did you mean 'rotate'?"),
        ("augment.rotate.degree", 5, "unknown key 'augment.rotate.degree'. Did you mean 'degrees'?"),
        ("augment.mix.alhpa", 1, "unknown key 'augment.mix.alhpa'. Did you mean 'alpha'?"),
        # a key of another arm
        (
            "schedule.gamma",
            0.1,
            "unknown key 'schedule.gamma'. Known: warmup_epochs, name, period_epochs, final_fraction.",
        ),
        (
            "model.head",
            {"name": "linear", "hidden": 3},
            "unknown key 'model.head.hidden'. Known: name, dropout.",
        ),
        # a name that nobody knows
        ("task", "multicls", "'task' is 'multicls'. Did you mean 'multiclass'?"),
        ("optimizer.name", "sgdd", "unknown optimizer 'sgdd'. Did you mean 'sgd'?"),
        ("schedule.name", "cosin", "unknown schedule 'cosin'. Did you mean 'cosine'?"),
        ("loss", {"name": "focl"}, "unknown loss 'focl'. Did you mean 'focal'?"),
        ("model.head.name", "mish", "unknown model.head 'mish'. Did you mean 'mish_mlp'?"),
        ("augment.mix.name", "cutmx", "unknown augment.mix 'cutmx'. Did you mean 'cutmix'?"),
        ("model.freeze", "stage5", "'model.freeze' is 'stage5'. Did you mean 'stage4'?"),
        ("precision", "fp8", "'precision' is 'fp8'. Known: fp32, fp16, bf16."),
        # what is missing
        ("epochs", ABSENT, "'epochs' is missing. Add it."),
        ("task", ABSENT, "'task' is missing. Add it."),
        ("optimizer", ABSENT, "'optimizer' is missing. Add it."),
        ("optimizer.lr", ABSENT, "'optimizer.lr' is missing. Add it."),
        ("model.backbone", ABSENT, "'model.backbone' is missing. Add it."),
        ("optimizer.name", ABSENT, "'optimizer' must say which it is with a 'name'. Add optimizer.name."),
        ("model.head.name", ABSENT, "'model.head' must say which it is with a 'name'. Add model.head.name."),
        # values out of bounds
        ("optimizer.lr", -1, "'optimizer.lr' is -1: input should be greater than 0. Change it."),
        ("optimizer.lr", math.nan, "'optimizer.lr' is nan: input should be a finite number. Change it."),
        ("optimizer.momentum", 1.0, "'optimizer.momentum' is 1.0: input should be less than 1. Change it."),
        ("epochs", 0, "'epochs' is 0: input should be greater than or equal to 1. Change it."),
        ("batch_size", 10**6, "'batch_size' is 1000000: input should be less than or equal to 65536. Change it."),
        ("augment.rotate.p", 1.5, "'augment.rotate.p' is 1.5: input should be less than or equal to 1. Change it."),
        ("threshold", 1.0, "'threshold' is 1.0: input should be less than 1. Change it."),
        ("seed", -1, "'seed' is -1: input should be greater than or equal to 0. Change it."),
        (
            "schedule",
            {"name": "multistep", "milestones": [1, -2]},
            "'schedule.milestones.1' is -2: input should be greater than 0. Change it.",
        ),
        # wrong types: nothing is guessed
        ("optimizer.lr", "fast", "'optimizer.lr' is 'fast': input should be a valid number. Change it."),
        ("optimizer.lr", True, "'optimizer.lr' is True: input should be a valid number. Change it."),
        ("epochs", 2.5, "'epochs' is 2.5: input should be a valid integer. Change it."),
        ("epochs", "10", "'epochs' is '10': input should be a valid integer. Change it."),
        ("channels_last", "yes", "'channels_last' is 'yes': input should be a valid boolean. Change it."),
        ("model.weights", 3, "'model.weights' is 3: input should be a valid string. Change it."),
        (
            "optimizer",
            "sgd",
            "'optimizer' is 'sgd', and has parts of its own. Say which one it is by its name: optimizer.name=sgd.",
        ),
        (
            "model",
            None,
            "'model' is None, and has parts of its own. Set one of them, such as model.backbone.",
        ),
        # a metric that nobody knows, or that the task does not have
        (
            "early_stopping_metric",
            "val/acuracy",
            "unknown early_stopping_metric 'val/acuracy'. Did you mean 'val/accuracy'?",
        ),
        # what does not fit together
        (
            "loss",
            {"name": "bce"},
            "task 'multiclass' takes the losses cross_entropy and focal, not 'bce'. Change one of them.",
        ),
        (
            "schedule.warmup_epochs",
            10.0,
            "schedule.warmup_epochs 10 must be below epochs 10. Change one of them.",
        ),
        (
            "schedule",
            {"name": "piecewise", "boundaries": [3.0, 2.0], "fractions": [1.0, 0.1, 0.1]},
            "piecewise needs rising boundaries and one fraction more than boundaries, got 2 boundaries [3.0, 2.0] "
            "and 3 fractions. Change one of them.",
        ),
        (
            "schedule",
            {"name": "piecewise", "boundaries": [3.0], "fractions": [1.0]},
            "piecewise needs rising boundaries and one fraction more than boundaries, got 1 boundaries [3.0] "
            "and 1 fractions. Change one of them.",
        ),
        (
            "schedule",
            {"name": "piecewise", "boundaries": [3.0], "fractions": [1.0, 0.1], "num_pieces": 3},
            "piecewise takes boundaries or num_pieces, and got both. Change one of them.",
        ),
        (
            "augment.random_resized_crop",
            {"scale_min": 0.9, "scale_max": 0.5},
            "scale_min 0.9 must not be above scale_max 0.5. Change one of them.",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_key_the_value_and_the_next_move(path: str, value: Any, words: str) -> None:
    assert message_of(with_value(path, value)) == f"the configuration: {words}"


def test_a_message_begins_with_where_the_configuration_came_from() -> None:
    assert message_of(with_value("epochs", 0), origin="trial 7").startswith("trial 7: 'epochs' is 0: ")


def test_everything_that_is_wrong_is_said_at_once_a_line_each() -> None:
    config = {**with_value("optimizer.lr", -1), "epochs": 0, "bach_size": 8}
    lines = message_of(config).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("the configuration: ") for line in lines)


@pytest.mark.parametrize("task", TASKS)
def test_a_configuration_without_a_loss_takes_the_first_of_its_task(task: str) -> None:
    assert parse_config(of_task(task)).loss.name == losses_of(task)[0]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_takes_its_own_losses_and_no_others(task: str) -> None:
    for name in LOSSES:
        config = {**of_task(task), "loss": {"name": name}}
        if name in losses_of(task):
            assert parse_config(config).loss.name == name
        else:
            assert f"not '{name}'" in message_of(config)


@pytest.mark.parametrize("task", TASKS)
def test_early_stopping_watches_a_metric_of_the_task(task: str) -> None:
    for metric in METRICS:
        config = {**of_task(task), "early_stopping_metric": metric}
        if metric in METRICS_OF_TASK[task]:
            assert parse_config(config).early_stopping_metric == metric
        else:
            assert f"early_stopping_metric '{metric}' is not one of task '{task}'." in message_of(config)


CROSSED = {"scale_min": 0.9, "scale_max": 0.5}


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"loss": {"name": "bce"}}, Contradiction),
        ({"augment": {"random_resized_crop": CROSSED}}, Contradiction),
        ({"schedule": {"name": "cosine", "warmup_epochs": 10.0}}, Contradiction),
        ({"epochs": 0}, ConfigError),
        ({"bach_size": 3}, ConfigError),
        ({"augment": {"random_resized_crop": CROSSED}, "bach_size": 3}, ConfigError),
        ({"early_stopping_metric": "val/acuracy"}, ConfigError),
    ],
)
def test_only_valid_values_that_do_not_go_together_are_a_contradiction(changed: dict[str, Any], kind: type) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({**CONFIG, **changed})
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("architecture", "fits"),
    [
        ("deeplabv3", False),
        ("deeplabv3plus", False),
        ("upernet", False),
        ("deeplabv3_resnet101", False),
        ("unet", True),
    ],
)
def test_networks_that_normalise_one_value_over_the_batch_need_two_images(architecture: str, fits: bool) -> None:
    backbone = {} if architecture == "deeplabv3_resnet101" else {"backbone": "resnet18"}
    model = {"architecture": {"name": architecture}, **backbone}
    config = {**of_task("segmentation"), "model": model}
    assert parse_config({**config, "batch_size": 2}).batch_size == 2
    if fits:
        assert parse_config({**config, "batch_size": 1}).batch_size == 1
        return
    with pytest.raises(Contradiction) as caught:
        parse_config({**config, "batch_size": 1})
    assert f"architecture '{architecture}' normalises one value per channel over the batch" in str(caught.value)
    assert "batch_size is 1: set batch_size=2 or more" in str(caught.value)


def test_a_merge_of_nothing_is_refused() -> None:
    said = message_of({**of_task("segmentation"), "merge": {"vehicle": []}})
    assert "'merge.vehicle' is ()" in said
    assert "at least 1 item" in said


def test_a_whole_number_passes_for_a_real_one() -> None:
    lr = parse_config(with_value("optimizer.lr", 1)).optimizer.lr
    assert lr == 1.0
    assert isinstance(lr, float)


def test_a_single_epoch_may_warm_up_all_the_way() -> None:
    config = {**with_value("epochs", 1), "schedule": {"name": "cosine", "warmup_epochs": 1.0}}
    assert parse_config(config).schedule.warmup_epochs == 1


def test_lists_become_tuples() -> None:
    schedule = {"name": "piecewise", "boundaries": [1, 2], "fractions": [0.1, 1, 0.5]}
    parsed = parse_config(with_value("schedule", schedule)).schedule
    assert parsed.boundaries == (1.0, 2.0)  # type: ignore[union-attr]
    assert hash(parsed)


def test_a_configuration_and_its_parts_are_frozen() -> None:
    config = parse_config(CONFIG)
    for part, field in ((config, "epochs"), (config.optimizer, "lr"), (config.augment.rotate, "degrees")):
        with pytest.raises(ValidationError, match="Instance is frozen"):
            setattr(part, field, 3)


def test_parsing_leaves_what_it_was_given_alone() -> None:
    given = copy.deepcopy(CONFIG)
    parse_config(given)
    assert given == CONFIG


def test_yaml_reads_scientific_notation_as_a_number(tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-3, without a point, for a string."""
    path = tmp_path / "one.yaml"
    path.write_text(
        "task: binary\nmodel: {backbone: resnet18}\noptimizer: {name: adam, lr: 1e-3, weight_decay: 2E+0}\n"
        "epochs: 3\nbatch_size: 8\nschedule: {name: multistep, milestones: [1e0, 2]}\n"
    )
    config = load_config(path)
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-3, 2.0)
    assert config.schedule.milestones == (1.0, 2.0)  # type: ignore[union-attr]


FULL: dict[str, Any] = {
    **CONFIG,
    "optimizer": {"name": "adamw", "lr": 1e-05, "beta2": 0.99},
    "schedule": {"name": "piecewise", "boundaries": [1, 2.5], "fractions": [0.1, 1.0, 0.3], "warmup_epochs": 0.5},
    "augment": {
        "rescale": {"low": 0.8},
        "crop_and_pad": {},
        "rotate": {"degrees": 5},
        "random_resized_crop": {"scale_min": 0.3},
        "horizontal_flip": {},
        "tone": {"strength": 2},
        "color_jitter": {},
        "blur": {"kind": "gaussian", "sigma_max": 2},
        "policy": {"name": "randaugment", "num_ops": 3},
        "coarse_dropout": {},
        "mix": {"name": "cutmix"},
    },
    "clip_grad_norm": 5,
    "ema_decay": 0.999,
    "early_stopping_patience": 3,
}


@pytest.mark.parametrize("values", [CONFIG, FULL], ids=["plain", "full"])
def test_a_configuration_comes_back_whole_from_yaml(values: dict[str, Any], tmp_path: Path) -> None:
    config = parse_config(values)
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    assert dump_config(load_config(path)) == dump_config(config)


def test_a_yaml_file_that_holds_no_configuration_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: cannot be read (No such file or directory). Name a YAML configuration."
    path.write_text("- 1\n- 2\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == (
        f"{path}: must hold a mapping of keys to values. `visionsweep export` writes such a file."
    )
    path.write_text("a: [1\nb: 2\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: is not valid YAML \(.*line 2.*\)\. Mend that line\.$"):
        load_config(path)
    path.write_bytes(b"task: caf\xe9\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == (f"{path}: is not UTF-8 text (invalid continuation byte at byte 9). Save it as UTF-8.")
    path.write_text("epochs: 3\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: 'task' is missing\. Add it\."):
        load_config(path)


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"task: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config(path)
    assert not (tmp_path / "made").exists()


def test_every_part_of_the_schema_is_strict_and_frozen() -> None:
    found = {Part}
    waiting = [Part]
    while waiting:
        below = set(waiting.pop().__subclasses__())
        found |= below
        waiting += below
    assert TrialConfig in found
    for part in found:
        assert {"strict": True, "frozen": True, "extra": "forbid"}.items() <= part.model_config.items(), part


def places(values: Any) -> Any:
    for key in list(values) if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ():
        yield values, key
        yield from places(values[key])


NONSENSE = [None, True, 0, -1, 1e308, float("inf"), 10**40, "", "x", "\ud800", [], {}, [[1]], {"name": {}}, {1: 2}]


@pytest.mark.parametrize("values", [CONFIG, FULL], ids=["plain", "full"])
def test_whatever_stands_in_a_place_of_a_configuration_is_taken_or_refused_in_words(values: dict[str, Any]) -> None:
    for number in range(len(list(places(copy.deepcopy(values))))):
        for nonsense in NONSENSE:
            changed = copy.deepcopy(values)
            holder, key = list(places(changed))[number]
            holder[key] = nonsense
            with contextlib.suppress(ConfigError):
                parse_config(changed)
