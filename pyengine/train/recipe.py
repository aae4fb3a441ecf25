"""From options to objects: what a configuration means as optimizer, schedule and loss."""

import math
from collections.abc import Callable, Iterable

from pyengine import Tensor, nn, optim
from pyengine.nn.functional import cross_entropy
from pyengine.optim import lr_scheduler
from pyengine.train.config import TrainConfig


def make_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """The optimizer over `parameters`."""
    if config.optimizer == "sgd":
        return optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    if config.optimizer == "adam":
        return optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)


def make_scheduler(config: TrainConfig, optimizer: optim.Optimizer, steps_per_epoch: int) -> lr_scheduler.LambdaLR:
    """The schedule of the learning rate, stepped once per optimizer step."""
    return lr_scheduler.LambdaLR(optimizer, schedule(config, steps_per_epoch))


def schedule(config: TrainConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """The learning rate's factor as a function of the steps done: linear warm-up, then the scheduler's fall."""
    warmup = round(config.warmup * steps_per_epoch)
    total = config.epochs * steps_per_epoch

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if config.scheduler == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(step - warmup, total - warmup) / max(total - warmup, 1)))
        if config.scheduler == "step":
            return config.gamma ** (step // (config.step_size * steps_per_epoch))
        return 1.0

    return factor


def make_criterion(config: TrainConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """The training loss: cross-entropy, its targets smoothed where the configuration says so."""

    def criterion(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, label_smoothing=config.label_smoothing)

    return criterion
