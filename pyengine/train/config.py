"""The options of a training run: their names, defaults, help texts and limits, each written once."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from pyengine.train.errors import UserError


def _option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    may_change: bool = False,
) -> Any:
    """A field of `TrainConfig`; `may_change` marks an option that a resumed run may give anew."""
    limits = {"choices": choices, "at_least": at_least, "above": above, "below": below}
    return dataclasses.field(default=default, metadata={"help": help, "may_change": may_change, **limits})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All that decides what a run computes. `create` checks the values and fills in what depends on others."""

    model: str = _option("lenet5", "lenet5, mlp or small_cnn")
    data: str = _option("digits", "digits (come with the package), mnist, fashion-mnist or cifar10")
    data_dir: str | None = _option(None, "where the data set's files lie", may_change=True)
    epochs: int = _option(30, "passes over the training images (default: 30 for digits, else 10)", at_least=1)
    batch_size: int = _option(64, "images per step", at_least=1)
    limit: int | None = _option(None, "train on the first so many images only (default: on all)", at_least=1)
    seed: int = _option(0, "decides the first weights, the order of the images and dropout", at_least=0, below=2**63)
    optimizer: str = _option("adamw", "how the weights are updated", choices=("sgd", "adam", "adamw"))
    lr: float = _option(0.004, "learning rate (default: 0.05 for sgd, else 0.004)", above=0)
    momentum: float = _option(0.9, "momentum of sgd", at_least=0, below=1)
    weight_decay: float = _option(0.1, "weight decay (default: 0.1 for adamw, else 0)", at_least=0)
    scheduler: str = _option("cosine", "how the learning rate falls", choices=("cosine", "step", "none"))
    step_size: int = _option(10, "epochs between two falls of the step scheduler", at_least=1)
    gamma: float = _option(0.1, "factor of each fall of the step scheduler", above=0)
    warmup: float = _option(0.0, "epochs over which the learning rate first rises", at_least=0)
    label_smoothing: float = _option(0.1, "share of each target spread over all classes", at_least=0, below=1)
    threads: int | None = _option(
        None,
        "threads to compute with; never changes results (default: all cores)",
        at_least=1,
        below=1025,
        may_change=True,
    )
    device: str = _option("cpu", "where to compute", may_change=True)
    checkpoint_every: int | None = _option(
        None, "steps between checkpoints, besides the one after each epoch", at_least=1, may_change=True
    )

    @classmethod
    def create(cls, options: Mapping[str, Any] | None = None, **more: Any) -> "TrainConfig":
        """The configuration with the options given and, for the rest, the defaults that fit to them."""
        given = _checked_all({**(options or {}), **more})
        config = cls(**{**_dependent_defaults(given), **given})
        _check_meaning(given, config)
        return config

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The configuration that `to_dict` gave."""
        return cls(**_checked_all(values))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return dataclasses.asdict(self)

    def resumed_with(self, options: Mapping[str, Any]) -> "TrainConfig":
        """This run's configuration when it goes on; an option that would make it another run is an error."""
        given = _checked_all(options)
        conflicts = []
        for field in dataclasses.fields(self):
            if field.name not in given:
                continue
            value, before = given[field.name], getattr(self, field.name)
            # More epochs leave the past as it was, unless the schedule looks ahead to the end.
            longer = field.name == "epochs" and self.scheduler != "cosine"
            if value != before and not longer and not field.metadata["may_change"]:
                conflicts.append(f"{flag(field.name)} {value} (the run has {'none' if before is None else before})")
        if conflicts:
            raise UserError(f"cannot resume with other options: {', '.join(conflicts)}")
        return dataclasses.replace(self, **given)


@dataclasses.dataclass(frozen=True)
class OptionText:
    """An option of `TrainConfig` as a command line shows it."""

    name: str
    flag: str
    type: type
    metavar: str
    help: str


def options_of_run() -> list[OptionText]:
    """Every option, in order."""
    options = []
    for field in dataclasses.fields(TrainConfig):
        kind, text = value_type(field), field.metadata["help"]
        if field.metadata["choices"]:
            text += f": {', '.join(field.metadata['choices'])}"
        if field.default is not None and "default" not in text:
            text += f" (default: {field.default})"
        metavar = "DIR" if field.name.endswith("_dir") else {int: "N", float: "X", str: "NAME"}[kind]
        options.append(OptionText(field.name, flag(field.name), kind, metavar, text.replace("%", "%%")))
    return options


def flag(name: str) -> str:
    """The command's flag for an option."""
    return "--" + name.replace("_", "-")


def value_type(field: "dataclasses.Field[Any]") -> type:
    """int, float or str: the type of a field's values, None aside."""
    annotation: Any = typing.get_type_hints(TrainConfig)[field.name]
    if isinstance(annotation, types.UnionType):
        annotation = next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    assert isinstance(annotation, type)
    return annotation


def did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    """`: did you mean 'mnist'?` where something close is known, else nothing."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def _dependent_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if given.get("data", "digits") != "digits":
        values["epochs"] = 10
    if given.get("optimizer") == "sgd":
        values["lr"] = 0.05
    if given.get("optimizer", "adamw") != "adamw":
        values["weight_decay"] = 0.0
    return values


def _checked_all(values: Mapping[str, Any]) -> dict[str, Any]:
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    for name in values:
        if name not in fields:
            raise UserError(f"unknown option {name!r}{did_you_mean(name, fields)}")
    return {name: _checked(fields[name], value) for name, value in values.items()}


def _checked(field: "dataclasses.Field[Any]", value: Any) -> Any:
    """The value in its field's type; an error when it has another type or lies outside the limits."""
    name, limits = flag(field.name), field.metadata
    kind: Any = value_type(field)  # Any: what it is shows only at run time
    if value is None and field.default is None:
        return None
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"{name}: expected {kind.__name__}, got {value!r}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{name} must be a finite number, got {value}")
    if limits["choices"] and value not in limits["choices"]:
        known = limits["choices"]
        raise UserError(
            f"{name}: unknown {field.name} {value!r}{did_you_mean(value, known)} (one of {', '.join(known)})"
        )
    if limits["at_least"] is not None and value < limits["at_least"]:
        raise UserError(f"{name} must be at least {limits['at_least']}, got {value}")
    if limits["above"] is not None and value <= limits["above"]:
        raise UserError(f"{name} must be above {limits['above']}, got {value}")
    if limits["below"] is not None and value >= limits["below"]:
        raise UserError(f"{name} must be below {limits['below']}, got {value}")
    return value


def _check_meaning(given: Mapping[str, Any], config: TrainConfig) -> None:
    """An option that would be ignored is more likely a mistake than a wish."""
    if "momentum" in given and config.optimizer != "sgd":
        raise UserError(f"--momentum is an option of sgd, not of {config.optimizer}")
    for name in ("step_size", "gamma"):
        if name in given and config.scheduler != "step":
            raise UserError(f"{flag(name)} is an option of the step scheduler, not of {config.scheduler}")
    if config.warmup >= config.epochs:
        raise UserError(f"--warmup must be shorter than the run, got {config.warmup:g} of {config.epochs} epochs")
