"""Learning-rate schedulers: the rates of every epoch against PyTorch's, and exact resumption."""

from __future__ import annotations

import math

import pytest

import pyengine as pe
from pyengine import nn, optim
from pyengine.optim import lr_scheduler


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def make_optimizer(name="SGD", **options):
    a, b = nn.Parameter(pe.ones(1)), nn.Parameter(pe.ones(1))
    return getattr(optim, name)([{"params": [a]}, {"params": [b], "lr": 0.3}], lr=0.05, **options)


def make_torch_optimizer(torch, name="SGD", **options):
    a, b = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    return getattr(torch.optim, name)([{"params": [a]}, {"params": [b], "lr": 0.3}], lr=0.05, **options)


def sequence(s, o):
    schedulers = [s.LinearLR(o, 0.1, total_iters=3), s.CosineAnnealingLR(o, 6), s.ExponentialLR(o, 0.9)]
    return s.SequentialLR(o, schedulers, [3, 9])


def nested_sequence(s, o):
    inner = s.SequentialLR(o, [s.ConstantLR(o, 0.5, 2), s.StepLR(o, 2, 0.5)], [3])
    return s.SequentialLR(o, [inner, s.PolynomialLR(o, 4)], [7])


SCHEDULERS = [
    lambda s, o: s.StepLR(o, 3, 0.5),
    lambda s, o: s.MultiStepLR(o, [2, 5, 5, 9], 0.5),
    lambda s, o: s.ConstantLR(o, 0.25, 4),
    lambda s, o: s.LinearLR(o, 0.1, 0.8, 6),
    lambda s, o: s.ExponentialLR(o, 0.9),
    lambda s, o: s.PolynomialLR(o, 6, 2.0),
    lambda s, o: s.CosineAnnealingLR(o, 5, 0.001),
    lambda s, o: s.CosineAnnealingWarmRestarts(o, 3),
    lambda s, o: s.CosineAnnealingWarmRestarts(o, 2, 2, 0.01),
    lambda s, o: s.LambdaLR(o, lambda epoch: 0.9**epoch),
    lambda s, o: s.LambdaLR(o, [lambda epoch: 1 / (epoch + 1), lambda epoch: epoch * 2.0]),
    lambda s, o: s.OneCycleLR(o, 1.0, total_steps=20),
    lambda s, o: s.OneCycleLR(o, [1.0, 2.0], epochs=4, steps_per_epoch=5, three_phase=True, anneal_strategy="linear"),
    lambda s, o: s.OneCycleLR(o, 1.0, 19, pct_start=0.4, base_momentum=[0.5, 0.6], max_momentum=0.9, div_factor=5.0),
    sequence,
    nested_sequence,
]


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("make", SCHEDULERS)
@pytest.mark.filterwarnings("ignore")
def test_rates(make, name, torch):
    options = {"momentum": 0.9} if name == "SGD" else {}
    ours, theirs = make_optimizer(name, **options), make_torch_optimizer(torch, name, **options)
    a, b = make(lr_scheduler, ours), make(torch.optim.lr_scheduler, theirs)
    for epoch in range(19):
        assert a.get_last_lr() == [g["lr"] for g in ours.param_groups]
        for g, h in zip(ours.param_groups, theirs.param_groups, strict=True):
            for key in {"lr", "initial_lr", "momentum", "betas"} & h.keys():
                assert g[key] == pytest.approx(h[key], rel=1e-14, abs=1e-18), (epoch, key)
        assert a.last_epoch == b.last_epoch
        ours.step()
        theirs.step()
        a.step()
        b.step()


@pytest.mark.parametrize("make", SCHEDULERS[:9])
@pytest.mark.filterwarnings("ignore")
def test_jumping(make, torch):
    ours, theirs = make_optimizer(), make_torch_optimizer(torch)
    a, b = make(lr_scheduler, ours), make(torch.optim.lr_scheduler, theirs)
    for epoch in (4, 1, 7):
        a.step(epoch)
        b.step(epoch)
        assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-14)
        assert a.last_epoch == b.last_epoch


@pytest.mark.filterwarnings("ignore")
def test_fractional_epochs(torch):
    ours, theirs = make_optimizer(), make_torch_optimizer(torch)
    a = lr_scheduler.CosineAnnealingWarmRestarts(ours, 2, 2)
    b = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(theirs, 2, 2)
    for i in range(30):
        a.step(i / 4)
        b.step(i / 4)
        assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-14)
    with pytest.raises(ValueError, match="Expected non-negative epoch"):
        a.step(-1)


@pytest.mark.parametrize("make", SCHEDULERS)
@pytest.mark.filterwarnings("ignore")
def test_resume_is_exact(make):
    straight = make_optimizer(momentum=0.9)
    expected = make(lr_scheduler, straight)
    first = make_optimizer(momentum=0.9)
    scheduler = make(lr_scheduler, first)
    for _ in range(5):
        expected.step()
        scheduler.step()
    second = make_optimizer(momentum=0.9)
    resumed = make(lr_scheduler, second)
    second.load_state_dict(first.state_dict())
    state = scheduler.state_dict()
    assert "optimizer" not in state
    resumed.load_state_dict(state)
    assert resumed.optimizer is second
    for _ in range(8):
        expected.step()
        resumed.step()
        assert resumed.get_last_lr() == expected.get_last_lr()
        assert second.param_groups[1]["lr"] == straight.param_groups[1]["lr"]


@pytest.mark.filterwarnings("ignore")
def test_resume_from_last_epoch(torch):
    for make in (
        lambda s, o, e: s.StepLR(o, 2, 0.5, last_epoch=e),
        lambda s, o, e: s.ExponentialLR(o, 0.9, last_epoch=e),
        lambda s, o, e: s.CosineAnnealingLR(o, 7, last_epoch=e),
        lambda s, o, e: s.LinearLR(o, 0.5, total_iters=6, last_epoch=e),
    ):
        ours, theirs = make_optimizer(), make_torch_optimizer(torch)
        with pytest.raises(KeyError, match="initial_lr"):
            make(lr_scheduler, ours, 3)
        for g, h in zip(ours.param_groups, theirs.param_groups, strict=True):
            g["initial_lr"] = h["initial_lr"] = 0.5
        a, b = make(lr_scheduler, ours, 3), make(torch.optim.lr_scheduler, theirs, 3)
        for _ in range(4):
            assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-14)
            a.step()
            b.step()


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 0, "mode": "max", "threshold": 0.1, "threshold_mode": "abs", "cooldown": 2},
        {"patience": 1, "factor": 0.5, "min_lr": [0.02, 0.1], "threshold_mode": "abs"},
        {"patience": 0, "mode": "max", "threshold": 0.05},
    ],
)
def test_reduce_on_plateau(options, torch):
    ours, theirs = make_optimizer(), make_torch_optimizer(torch)
    a = lr_scheduler.ReduceLROnPlateau(ours, **options)
    b = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    values = [1.0, 0.9, 0.9, 0.91, 0.95, 0.5, 0.49999, 0.6, 0.7, 0.4, math.nan, 0.8, 0.3, 0.2, 0.9, 1.0]
    for i, value in enumerate(values):
        a.step(pe.tensor(value) if i % 2 else value)
        b.step(torch.tensor(value) if i % 2 else value)
        assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-14), i
        assert a.num_bad_epochs == b.num_bad_epochs and a.in_cooldown == b.in_cooldown
        if i == 6:
            other = lr_scheduler.ReduceLROnPlateau(ours)
            other.load_state_dict(a.state_dict())
            a = other


def test_two_schedulers_at_once():
    optimizer = make_optimizer()
    schedulers = [lr_scheduler.ExponentialLR(optimizer, 0.5), lr_scheduler.StepLR(optimizer, 2, 0.1)]
    optimizer.step()
    for _ in range(2):
        for scheduler in schedulers:
            scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.25 * 0.1)


def test_lambda_object_is_saved():
    class Factor:
        def __init__(self, value):
            self.value = value

        def __call__(self, epoch):
            return self.value

    scheduler = lr_scheduler.LambdaLR(make_optimizer(), [Factor(0.5), lambda epoch: 1.0])
    state = scheduler.state_dict()
    assert state["lr_lambdas"] == [{"value": 0.5}, None]
    other = lr_scheduler.LambdaLR(make_optimizer(), [Factor(0.1), lambda epoch: 1.0])
    other.load_state_dict(state)
    assert other.lr_lambdas[0].value == 0.5 and "lr_lambdas" in state


def test_order_warning():
    optimizer = make_optimizer()
    scheduler = lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        scheduler.step()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda s, o: s.StepLR(3, 1), TypeError, "int is not an Optimizer"),
        (lambda s, o: s.LambdaLR(o, [abs]), ValueError, "Expected 2 lr_lambdas, but got 1"),
        (
            lambda s, o: s.ConstantLR(o, 2.0),
            ValueError,
            "Constant multiplicative factor expected to be between 0 and 1",
        ),
        (lambda s, o: s.LinearLR(o, 0.0), ValueError, "Starting multiplicative factor expected to be greater than 0"),
        (lambda s, o: s.LinearLR(o, 1.0, 2.0), ValueError, "Ending multiplicative factor expected to be between 0 and"),
        (lambda s, o: s.CosineAnnealingWarmRestarts(o, 0), ValueError, "Expected positive integer T_0, but got 0"),
        (lambda s, o: s.CosineAnnealingWarmRestarts(o, 2, 0), ValueError, "Expected integer T_mult >= 1, but got 0"),
        (lambda s, o: s.OneCycleLR(o, 1.0), ValueError, "You must define either total_steps OR"),
        (lambda s, o: s.OneCycleLR(o, 1.0, 0), ValueError, "Expected positive integer total_steps, but got 0"),
        (lambda s, o: s.OneCycleLR(o, 1.0, 9, pct_start=2.0), ValueError, "Expected float between 0 and 1 pct_start"),
        (lambda s, o: s.OneCycleLR(o, 1.0, 9, anneal_strategy="x"), ValueError, "anneal_strategy must be one of"),
        (lambda s, o: s.OneCycleLR(o, [1.0], 9), ValueError, "max_lr has 1 values, param_groups has 2"),
        (lambda s, o: s.SequentialLR(o, [], []), ValueError, "expects at least one scheduler"),
        (lambda s, o: s.SequentialLR(o, [s.StepLR(o, 1)], [1]), ValueError, "to be one more than the number of milest"),
        (lambda s, o: s.SequentialLR(o, [s.ReduceLROnPlateau(o)], []), ValueError, "does not support `ReduceLROnPlat"),
        (lambda s, o: s.SequentialLR(o, [s.StepLR(make_optimizer(), 1)], []), ValueError, "belong to the same optim"),
        (lambda s, o: s.ReduceLROnPlateau(o, factor=1.0), ValueError, "Factor should be < 1.0."),
        (lambda s, o: s.ReduceLROnPlateau(o, "up"), ValueError, "mode up is unknown!"),
        (lambda s, o: s.ReduceLROnPlateau(o, threshold_mode="x"), ValueError, "threshold mode x is unknown!"),
        (lambda s, o: s.ReduceLROnPlateau(o, min_lr=[0.0]), ValueError, "expected 2 min_lrs, got 1"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error) as info:
        make(lr_scheduler, make_optimizer())
    assert text in str(info.value)


@pytest.mark.filterwarnings("ignore")
def test_one_cycle_ends():
    scheduler = lr_scheduler.OneCycleLR(make_optimizer(momentum=0.9), 1.0, 3)
    with pytest.raises(ValueError, match="Tried to step 4 times. The specified number of total steps is 3"):
        for _ in range(5):
            scheduler.step()
    with pytest.raises(ValueError, match="optimizer must support momentum or beta1"):
        plain = optim.Optimizer([nn.Parameter(pe.ones(1))], {"lr": 0.1})
        lr_scheduler.OneCycleLR(plain, 1.0, 3)
