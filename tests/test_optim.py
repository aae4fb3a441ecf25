"""Optimizers: steps against PyTorch's, groups, state dicts, hooks and errors."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import pyengine as pe
from pyengine import nn, optim


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


SHAPES = [(3, 4), (5,), (2, 3, 3, 3), (), (17,)]


def arrays(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype=dtype) for shape in SHAPES]


def parameters(seed=0, dtype=np.float32):
    return [nn.Parameter(pe.from_numpy(np.array(a))) for a in arrays(seed, dtype)]


def set_grads(params, seed, skip=()):
    for i, (p, g) in enumerate(zip(params, arrays(seed), strict=True)):
        p.grad = None if i in skip else pe.from_numpy(np.array(g)).to(p.dtype)


OPTIONS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("Adam", {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True, "maximize": True}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_steps(name, options, dtype, torch):
    ours = parameters(0, dtype)
    theirs = [torch.nn.Parameter(torch.from_numpy(np.array(a))) for a in arrays(0, dtype)]
    a, b = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(6):
        skip = {1} if step == 2 else {4} if step < 3 else ()  # parameters without gradients are left alone
        set_grads(ours, step + 1, skip)
        for i, (q, g) in enumerate(zip(theirs, arrays(step + 1), strict=True)):
            q.grad = None if i in skip else torch.from_numpy(np.array(g)).to(q.dtype)
        a.step()
        b.step()
    rtol = 2e-6 if dtype == np.float32 else 1e-12
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=rtol, atol=rtol)
    mine, other = a.state_dict(), b.state_dict()
    assert mine["state"].keys() == other["state"].keys()
    for i, state in mine["state"].items():
        assert state.keys() == other["state"][i].keys()
        for key, value in state.items():
            np.testing.assert_allclose(
                np.asarray(value), np.asarray(other["state"][i][key]), rtol=rtol, atol=rtol, err_msg=key
            )
    assert mine["param_groups"] == other["param_groups"]


def test_sgd_by_hand():
    p = nn.Parameter(pe.tensor([1.0, 2.0], dtype=pe.float64))
    optimizer = optim.SGD([p], lr=0.5, momentum=0.5, weight_decay=0.1)
    for _ in range(2):
        p.grad = pe.tensor([1.0, -1.0], dtype=pe.float64)
        optimizer.step()
    x, v = np.array([1.0, 2.0]), 0
    for _ in range(2):
        v = 0.5 * v + np.array([1.0, -1.0]) + 0.1 * x
        x = x - 0.5 * v
    np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-15)


def test_training_converges():
    pe.manual_seed(0)
    x = pe.from_numpy(np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32))
    y = x @ pe.tensor([[1.0], [-2.0], [0.5]]) + 0.3
    for name, lr in (("SGD", 0.1), ("Adam", 0.1), ("AdamW", 0.1)):
        model = nn.Linear(3, 1)
        optimizer = getattr(optim, name)(model.parameters(), lr=lr)
        for _ in range(300):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        assert loss.item() < 1e-3, name


def test_groups():
    a, b, c = parameters()[:3]
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 1.0}], lr=0.1, momentum=0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 1.0]
    optimizer.add_param_group({"params": [c], "momentum": 0.0})
    before = [p.detach().numpy().copy() for p in (a, b, c)]
    for p in (a, b, c):
        p.grad = pe.ones(p.shape)
    optimizer.step()
    for p, old, lr in zip((a, b, c), before, (0.1, 1.0, 0.1), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), old - np.float32(lr), rtol=1e-6)
    assert set(optimizer.state) == {a, b}
    text = repr(optimizer)
    assert text.startswith("SGD (\nParameter Group 0\n    dampening: 0\n") and "Parameter Group 2\n" in text


def test_named_parameters():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.param_groups[0]["params"][0] is model.weight
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_zero_grad():
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1)
    set_grads(params, 1)
    grad = params[0].grad
    optimizer.zero_grad(set_to_none=False)
    assert params[0].grad.data_ptr() == grad.data_ptr() and grad.abs().sum().item() == 0
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_closure_and_hooks():
    p = nn.Parameter(pe.ones(1))
    optimizer = optim.SGD([p], lr=0.1)
    calls = []
    first = optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("before"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("after"))

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        calls.append("closure")
        return loss

    with pe.no_grad():
        assert optimizer.step(closure).item() == 1
    assert calls == ["before", "closure", "after"]
    np.testing.assert_allclose(p.item(), 0.8, rtol=1e-6)
    first.remove()
    assert optimizer.step() is None and calls[3:] == ["after"]
    optimizer.register_step_pre_hook(lambda o, args, kwargs: 3)
    with pytest.raises(RuntimeError, match="must return None or a tuple of"):
        optimizer.step()


def test_own_optimizer():
    class SignDescent(optim.Optimizer):
        def __init__(self, params, lr=optim.optimizer.required):
            super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            with pe.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.add_(p.grad.sign() * -group["lr"])

    p = nn.Parameter(pe.ones(2))
    with pytest.raises(
        ValueError, match="parameter group didn't specify a value of required optimization parameter lr"
    ):
        SignDescent([p])
    optimizer = SignDescent([p], lr=0.5)
    p.grad = pe.ones(2)
    optimizer.step()
    assert p.detach().tolist() == [0.5, 0.5]


# --- state dicts


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_resume_is_exact(name, options):
    straight, resumed = parameters(), parameters()
    a = getattr(optim, name)(straight, **options)
    b = getattr(optim, name)(resumed, **options)
    for step in range(4):
        set_grads(straight, step)
        a.step()
        set_grads(resumed, step)
        b.step()
        if step == 1:
            state = pickle.loads(pickle.dumps(b.state_dict()))
            resumed = [nn.Parameter(p.detach().clone()) for p in resumed]
            b = getattr(optim, name)(resumed, lr=5.0)
            b.load_state_dict(state)
    for p, q in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_loaded_state_is_a_copy_in_the_parameters_dtype():
    params = parameters()
    first = optim.Adam(params)
    set_grads(params, 1)
    first.step()
    state = first.state_dict()
    second = optim.Adam(parameters(0, np.float64))
    second.load_state_dict(state)
    values = second.state[second.param_groups[0]["params"][0]]
    assert values["exp_avg"].dtype == pe.float64 and values["step"] == 1.0
    third = optim.Adam(params)
    third.load_state_dict(state)
    assert third.state[params[0]]["exp_avg"].data_ptr() != first.state[params[0]]["exp_avg"].data_ptr()
    tensor_step = copy.deepcopy(state)
    tensor_step["state"][0]["step"] = pe.tensor(1.0)  # as PyTorch keeps it
    third.load_state_dict(tensor_step)
    assert third.state[params[0]]["step"] == 1.0


def test_load_state_dict_errors():
    params = parameters()
    state = optim.SGD(params, lr=0.1).state_dict()
    with pytest.raises(ValueError, match="loaded state dict has a different number of parameter groups"):
        optim.SGD([{"params": params[:2]}, {"params": params[2:]}], lr=0.1).load_state_dict(state)
    with pytest.raises(ValueError, match="parameter group that doesn't match the size of optimizer's group"):
        optim.SGD(params[:2], lr=0.1).load_state_dict(state)


def test_copy_and_pickle():
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    set_grads(params, 1)
    optimizer.step()
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        own = other.param_groups[0]["params"]
        assert own[0] is not params[0]
        np.testing.assert_array_equal(
            other.state[own[0]]["momentum_buffer"].numpy(), optimizer.state[params[0]]["momentum_buffer"].numpy()
        )
        set_grads(own, 2)
        other.step()


# --- errors


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda p: optim.SGD(p, lr=0.1), TypeError, "params argument given to the optimizer should be an iterable of"),
        (lambda p: optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
        (lambda p: optim.SGD([{"params": {p}}]), TypeError, "need to be organized in ordered collections"),
        (lambda p: optim.SGD([1]), TypeError, "optimizer can only optimize Tensors, but one of the params is int"),
        (lambda p: optim.SGD([p * 2]), ValueError, "can't optimize a non-leaf Tensor"),
        (lambda p: optim.SGD([{"params": p}, {"params": p}]), ValueError, "some parameters appear in more than one"),
        (lambda p: optim.SGD([{"params": p}, 3]), TypeError, "param_group must be a dict, but got <class 'int'>"),
        (lambda p: optim.SGD([("a", p), p]), ValueError, "all optimizer params should be with/without names"),
        (lambda p: optim.SGD([p], lr=-1), ValueError, "Invalid learning rate: -1"),
        (lambda p: optim.SGD([p], lr=float("nan")), ValueError, "Invalid learning rate: nan"),
        (lambda p: optim.SGD([p], momentum=-1), ValueError, "Invalid momentum value: -1"),
        (lambda p: optim.SGD([p], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "Nesterov momentum requires a momentum and zero damp"),
        (lambda p: optim.Adam([p], lr=-1), ValueError, "Invalid learning rate: -1"),
        (lambda p: optim.Adam([p], eps=-1), ValueError, "Invalid epsilon value: -1"),
        (lambda p: optim.Adam([p], betas=(1.0, 0.9)), ValueError, "Invalid beta parameter at index 0: 1.0"),
        (lambda p: optim.AdamW([p], betas=(0.9, -1.0)), ValueError, "Invalid beta parameter at index 1: -1.0"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error) as info:
        make(nn.Parameter(pe.ones(2)))
    assert text in str(info.value)


def test_duplicate_parameter_warns():
    p = nn.Parameter(pe.ones(2))
    with pytest.warns(UserWarning, match="parameter group with duplicate parameters"):
        optim.SGD([p, p], lr=0.1)
