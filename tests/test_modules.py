"""Module, containers, layers and losses: behaviour, texts and values as PyTorch's."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import pyengine as pe
from pyengine import nn
from pyengine.nn import functional as F


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def random(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def tensor(array, requires_grad=False):
    t = pe.from_numpy(np.array(array))
    return t.requires_grad_(True) if requires_grad else t


def to_numpy(t):
    return np.asarray(t.detach().numpy())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 3)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


# --- registering


def test_attributes_are_registered():
    module = nn.Module()
    module.p = nn.Parameter(pe.ones(2))
    module.register_buffer("b", pe.zeros(3))
    module.register_buffer("hidden", pe.zeros(1), persistent=False)
    module.child = nn.Linear(2, 2)
    module.c = nn.Buffer(pe.ones(2), persistent=False)
    module.plain = 5
    assert [name for name, _ in module.named_parameters()] == ["p", "child.weight", "child.bias"]
    assert [name for name, _ in module.named_buffers()] == ["b", "hidden", "c"]
    assert list(module.state_dict()) == ["p", "b", "child.weight", "child.bias"]
    assert {"p", "b", "child", "plain"} <= set(dir(module))
    del module.p
    assert not hasattr(module, "p")
    module.child = None
    assert list(module.children()) == []


def test_assigning_elsewhere_moves_the_registration():
    module = nn.Module()
    module.x = 1
    module.x = nn.Parameter(pe.ones(1))
    assert "x" not in module.__dict__ and "x" in module._parameters
    with pytest.raises(TypeError, match="cannot assign 'int' as parameter 'x'"):
        module.x = 1
    module.z = pe.ones(1)
    module.z = nn.Linear(1, 1)
    assert "z" not in module.__dict__ and "z" in module._modules
    module.z = nn.Parameter(pe.ones(1))
    assert "z" not in module._modules and "z" in module._parameters
    module.x = None
    module.child = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="cannot assign 'int' as child module 'child'"):
        module.child = 3
    assert isinstance(module.register_buffer("y", pe.ones(1)), type(None))
    module.y = pe.zeros(2)
    assert module._buffers["y"].shape == (2,)


@pytest.mark.parametrize(
    ("register", "error", "text"),
    [
        (lambda m: m.register_parameter("a.b", None), KeyError, 'parameter name can\'t contain "."'),
        (lambda m: m.register_parameter("", None), KeyError, 'parameter name can\'t be empty string ""'),
        (lambda m: m.register_parameter("forward", None), KeyError, "attribute 'forward' already exists"),
        (lambda m: m.register_parameter(1, None), TypeError, "parameter name should be a string. Got int"),
        (lambda m: m.register_parameter("w", 1), TypeError, "cannot assign 'int' object to parameter 'w'"),
        (lambda m: m.register_buffer("a.b", None), KeyError, 'buffer name can\'t contain "."'),
        (lambda m: m.register_buffer("b", "x"), TypeError, "cannot assign 'str' object to buffer 'b'"),
        (lambda m: m.add_module("a.b", None), KeyError, 'module name can\'t contain ".", got: a.b'),
        (lambda m: m.add_module("a", 1), TypeError, "int is not a Module subclass"),
        (lambda m: m.get_submodule("conv.x"), AttributeError, "Conv2d has no attribute `x`"),
        (lambda m: m.get_submodule("conv.weight"), AttributeError, "`weight` is not an nn.Module"),
        (lambda m: m.get_parameter("norm.running_mean"), AttributeError, "`running_mean` is not an nn.Parameter"),
        (lambda m: m.get_buffer("norm.weight"), AttributeError, "`weight` is not a buffer"),
        (lambda m: m.missing, AttributeError, "'Net' object has no attribute 'missing'"),
        (lambda m: m.train(1), ValueError, "training mode is expected to be boolean"),
        (lambda m: m.to(pe.int64), TypeError, "nn.Module.to only accepts floating point"),
        (lambda m: nn.Module()(1), NotImplementedError, 'Module [Module] is missing the required "forward" function'),
        (lambda m: setattr(m.conv, "weight", pe.ones(1)), TypeError, "as parameter 'weight'"),
    ],
)
def test_errors(register, error, text):
    with pytest.raises(error) as info:
        register(Net())
    assert text in info.value.args[0]


def test_before_init():
    class Late(nn.Module):
        def __init__(self, value):
            self.x = value

    for value, what in ((nn.Parameter(pe.ones(1)), "parameters"), (nn.Linear(1, 1), "module"), (nn.Buffer(), "buffer")):
        with pytest.raises(AttributeError, match=rf"cannot assign {what} before Module.__init__\(\) call"):
            Late(value)


def test_walking():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.Sequential(shared), nn.ReLU())
    assert [name for name, _ in model.named_modules()] == ["", "0", "1", "2"]
    assert [name for name, _ in model.named_modules(remove_duplicate=False)] == ["", "0", "1", "1.0", "2"]
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert len(list(model.parameters())) == 2
    assert len(list(model.named_parameters(remove_duplicate=False))) == 4
    assert [name for name, _ in model.named_parameters(prefix="m")] == ["m.0.weight", "m.0.bias"]
    assert list(model.parameters(recurse=False)) == []
    assert model.get_submodule("1.0") is shared and model.get_submodule("") is model
    assert model.get_parameter("1.0.bias") is shared.bias
    model.set_submodule("1.0", nn.Identity())
    assert isinstance(model[1][0], nn.Identity)
    seen = []
    model.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Identity", "Sequential", "ReLU", "Sequential"]


# --- parameters


def test_parameter():
    data = pe.ones(2, 3)
    parameter = nn.Parameter(data)
    assert isinstance(parameter, pe.Tensor) and parameter.requires_grad and parameter.is_leaf
    assert repr(parameter).startswith("Parameter containing:\ntensor(")
    assert not isinstance(parameter + 1, nn.Parameter)
    assert not nn.Parameter(pe.ones(2), requires_grad=False).requires_grad
    assert nn.Parameter().numel() == 0
    data[0, 0] = 7.0
    assert parameter[0, 0].item() == 7.0  # the memory is shared
    clone = copy.deepcopy(parameter)
    assert type(clone) is nn.Parameter and clone is not parameter
    assert clone.data_ptr() != parameter.data_ptr()
    parameter.tag = "kept"
    loaded = pickle.loads(pickle.dumps(parameter))
    assert type(loaded) is nn.Parameter and loaded.requires_grad and loaded.tag == "kept"
    np.testing.assert_array_equal(to_numpy(loaded), to_numpy(parameter))


# --- train, to, gradients


def test_modes_and_conversion():
    model = Net()
    assert model.eval() is model and not model.norm.training
    assert model.train().norm.training
    weight = model.conv.weight
    assert model.double() is model
    assert model.conv.weight is weight and weight.dtype == pe.float64  # optimizers keep their parameter
    assert model.norm.running_mean.dtype == pe.float64
    assert model.norm.num_batches_tracked.dtype == pe.int64
    model.to(pe.ones(1))
    assert weight.dtype == pe.float32
    model.to("cpu", pe.float64)
    assert weight.dtype == pe.float64
    model.float()
    model.to(device="cpu", dtype=pe.float64)
    assert weight.dtype == pe.float64
    model.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())


def test_zero_grad():
    model = nn.Linear(2, 1)
    model(pe.ones(1, 2)).sum().backward()
    model.zero_grad(set_to_none=False)
    assert model.weight.grad.abs().sum().item() == 0
    model.double()
    assert model.weight.grad.dtype == pe.float64
    model.zero_grad()
    assert model.weight.grad is None


# --- state dicts


def test_state_dict_round_trip():
    first, second = Net(), Net()
    first(pe.ones(2, 1, 5, 5))
    state = first.state_dict()
    assert isinstance(state, OrderedDict)
    assert state._metadata["norm"] == {"version": 2}
    assert not state["fc.weight"].requires_grad
    assert first.state_dict(keep_vars=True)["fc.weight"] is first.fc.weight
    assert list(first.state_dict(prefix="m."))[0] == "m.conv.weight"
    result = second.load_state_dict(state)
    assert repr(result) == "<All keys matched successfully>"
    for name, value in second.state_dict().items():
        np.testing.assert_array_equal(to_numpy(value), to_numpy(state[name]))
    assert second.norm.num_batches_tracked.item() == 1


def test_load_state_dict_errors(torch):
    """The texts are PyTorch's, but for the names of classes."""

    class TorchNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 2, 3)
            self.fc = torch.nn.Linear(2, 3)

    class SameNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.fc = nn.Linear(2, 3)

    TorchNet.__name__ = "SameNet"
    texts = []
    for model, zeros in ((TorchNet(), torch.zeros), (SameNet(), pe.zeros)):
        state = model.state_dict()
        del state["conv.bias"]
        state["fc.weight"] = zeros(4, 2)
        state["fc.extra"] = zeros(1)
        state["other.weight"] = zeros(1)
        with pytest.raises(RuntimeError) as info:
            model.load_state_dict(state)
        texts.append(str(info.value).replace("torch.Size", "").replace("pyengine.Size", ""))
    strip = str.maketrans("", "", "()[]")
    assert texts[0].translate(strip) == texts[1].translate(strip)


def test_load_state_dict_not_strict():
    model = Net()
    state = model.state_dict()
    del state["fc.bias"]
    state["x"] = pe.ones(1)
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["fc.bias"] and result.unexpected_keys == ["x"]
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        model.load_state_dict(3)
    with pytest.raises(RuntimeError, match="expected pyengine.Tensor"):
        model.load_state_dict({**model.state_dict(), "fc.bias": [1, 2, 3]})


def test_load_state_dict_assign():
    model = nn.Linear(2, 1)
    weight = pe.ones(1, 2, dtype=pe.float64)
    model.load_state_dict({"weight": weight, "bias": pe.zeros(1, dtype=pe.float64)}, assign=True)
    assert model.weight.dtype == pe.float64 and model.weight.data_ptr() == weight.data_ptr()
    assert isinstance(model.weight, nn.Parameter) and model.weight.requires_grad


def test_state_dict_hooks_and_extra_state():
    class WithExtra(nn.Linear):
        def get_extra_state(self):
            return {"version": 3}

        def set_extra_state(self, state):
            self.loaded = state

    model = WithExtra(1, 1)
    calls = []
    model.register_state_dict_pre_hook(lambda m, prefix, keep_vars: calls.append(("pre", prefix, keep_vars)))
    model.register_state_dict_post_hook(lambda m, state, prefix, metadata: state.update(extra=pe.ones(1)))
    state = model.state_dict()
    assert calls == [("pre", "", False)] and state["_extra_state"] == {"version": 3} and "extra" in state
    model.register_load_state_dict_pre_hook(lambda m, state, *args: state.pop("extra"))
    model.register_load_state_dict_post_hook(lambda m, keys: calls.append(keys))
    model.load_state_dict(state)
    assert model.loaded == {"version": 3} and calls[-1].missing_keys == [] and "extra" in state


def test_old_batch_norm_state():
    state = nn.BatchNorm2d(2).state_dict()
    del state["num_batches_tracked"]
    del state._metadata
    nn.BatchNorm2d(2).load_state_dict(state)


def test_copy_and_pickle():
    model = Net()
    model(pe.ones(2, 1, 5, 5))
    twin = copy.deepcopy(model)
    assert twin.fc.weight is not model.fc.weight
    loaded = pickle.loads(pickle.dumps(model))
    x = tensor(random(2, 1, 5, 5))
    for other in (twin, loaded):
        np.testing.assert_array_equal(to_numpy(other.eval()(x)), to_numpy(model.eval()(x)))
    with pe.no_grad():
        twin.fc.weight.fill_(0)
    assert model.fc.weight.abs().sum().item() > 0
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert copy.deepcopy(tied)[1].weight is not tied[0].weight
    assert len(list(copy.deepcopy(tied).parameters())) == 3


# --- hooks


def test_forward_hooks():
    model = nn.Linear(1, 1)
    with pe.no_grad():
        model.weight.fill_(1)
        model.bias.fill_(0)
    pre = model.register_forward_pre_hook(lambda m, args: args[0] * 2)
    post = model.register_forward_hook(lambda m, args, output: output + args[0] * 100)
    assert model(pe.ones(1, 1)).item() == 202
    pre.remove()
    assert model(pe.ones(1, 1)).item() == 101
    with post:
        pass
    assert model(pe.ones(1, 1)).item() == 1
    order = []
    model.register_forward_hook(lambda *a: order.append(1))
    model.register_forward_hook(lambda *a: order.append(2), prepend=True)
    model.register_forward_hook(lambda m, args, kwargs, y: order.append(sorted(kwargs)), with_kwargs=True)
    model.register_forward_pre_hook(lambda m, args, kwargs: (args, {"input": kwargs["input"]}), with_kwargs=True)
    model(input=pe.ones(1, 1))
    assert order == [2, 1, ["input"]]
    bad = nn.Linear(1, 1)
    bad.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="forward pre-hook must return None or a tuple of"):
        bad(pe.ones(1, 1))


def test_forward_hook_always_called():
    class Failing(nn.Module):
        def forward(self, x):
            raise KeyError("inside")

    model = Failing()
    calls = []
    model.register_forward_hook(lambda m, args, y: calls.append(y), always_call=True)
    model.register_forward_hook(lambda m, args, y: calls.append("no"))
    with pytest.raises(KeyError, match="inside"):
        model(1)
    assert calls == [None]


def test_backward_hooks():
    model = nn.Linear(2, 1, bias=False)
    with pe.no_grad():
        model.weight.fill_(3)
    seen = []
    model.register_full_backward_hook(lambda m, gin, gout: seen.append((gin, gout)))
    x = pe.ones(1, 2, requires_grad=True)
    (model(x).sum() + x.sum()).backward()
    (grad_in,), (grad_out,) = seen[0]
    np.testing.assert_array_equal(to_numpy(grad_in), [[3, 3]])  # through the module alone
    np.testing.assert_array_equal(to_numpy(grad_out), [[1]])
    np.testing.assert_array_equal(to_numpy(x.grad), [[4, 4]])

    model(pe.ones(1, 2)).sum().backward()  # no input needs a gradient
    assert seen[1][0] == (None,) and seen[1][1][0].item() == 1

    other = nn.Linear(2, 1, bias=False)
    with pe.no_grad():
        other.weight.fill_(3)
    other.register_full_backward_pre_hook(lambda m, gout: (gout[0] * 10,))
    other.register_full_backward_hook(lambda m, gin, gout: (gin[0] + gout[0],))
    x = pe.ones(1, 2, requires_grad=True)
    other(x).sum().backward()
    np.testing.assert_array_equal(to_numpy(x.grad), [[40, 40]])
    np.testing.assert_array_equal(to_numpy(other.weight.grad), [[10, 10]])
    other.register_full_backward_hook(lambda m, gin, gout: (None, None))
    with pytest.raises(RuntimeError, match="invalid number of grad_input, got 2, but expected 1"):
        other(x).sum().backward()


def test_backward_hook_with_several_inputs():
    class Two(nn.Module):
        def forward(self, a, b, scale):
            return a * scale, b + a

    model = Two()
    seen = []
    model.register_full_backward_hook(lambda m, gin, gout: seen.append((gin, gout)))
    a, b = pe.ones(2, requires_grad=True), pe.ones(2)
    y, z = model(a, b, 5.0)
    (y + z * 2).sum().backward()
    grad_in, grad_out = seen[0]
    assert len(grad_in) == 3 and grad_in[1] is None and grad_in[2] is None
    np.testing.assert_array_equal(to_numpy(grad_in[0]), [7, 7])
    assert [g[0].item() for g in grad_out] == [1, 2]


# --- repr


def make_model(nn):
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)
            ),
            blocks=nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(3, 2), nn.Sequential(nn.GELU())]),
            heads=nn.ModuleDict({"a": nn.Dropout(0.1), "b": nn.Identity()}),
            empty=nn.ModuleList(),
            last=nn.Sequential(nn.LeakyReLU(0.2), nn.Softmax(dim=1), nn.Flatten(), nn.CrossEntropyLoss()),
        )
    )


LAYERS = [
    lambda nn: nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2), dilation=2, groups=2, padding_mode="reflect"),
    lambda nn: nn.Conv2d(4, 8, 3, padding="same"),
    lambda nn: nn.Linear(3, 4, bias=False),
    lambda nn: nn.Unflatten(1, (2, 3)),
    lambda nn: nn.BatchNorm1d(4, momentum=None, track_running_stats=False),
    lambda nn: nn.LayerNorm((3, 4), eps=1e-6, bias=False),
    lambda nn: nn.AvgPool2d(3, stride=2, padding=1),
    lambda nn: nn.MaxPool2d((3, 2), ceil_mode=True),
    lambda nn: nn.AdaptiveAvgPool2d((2, None)),
    lambda nn: nn.AdaptiveMaxPool2d(3),
    lambda nn: nn.Dropout2d(0.3),
    lambda nn: nn.Hardtanh(-2, 2, inplace=True),
    lambda nn: nn.ReLU6(inplace=True),
    lambda nn: nn.ELU(0.5),
    lambda nn: nn.SELU(inplace=True),
    lambda nn: nn.CELU(2.0),
    lambda nn: nn.Softplus(2, 10),
    lambda nn: nn.PReLU(3),
    lambda nn: nn.Threshold(0.1, 20),
    lambda nn: nn.Hardshrink(0.3),
    lambda nn: nn.Softshrink(0.3),
    lambda nn: nn.Hardswish(),
    lambda nn: nn.Hardsigmoid(inplace=True),
    lambda nn: nn.GELU("tanh"),
    lambda nn: nn.GLU(1),
    lambda nn: nn.LogSoftmax(1),
    lambda nn: nn.Sigmoid(),
    lambda nn: nn.BCEWithLogitsLoss(),
    lambda nn: nn.SmoothL1Loss(beta=2.0),
    make_model,
]


@pytest.mark.parametrize("make", LAYERS)
def test_repr(make, torch):
    older = repr(make(torch.nn)).replace(", bias=True, track", ", track")  # which newer versions say
    assert repr(make(nn)).replace(", bias=True, track", ", track") == older


# --- containers


def test_sequential():
    a, b, c = nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3)
    model = nn.Sequential(a, b, c)
    assert len(model) == 3 and model[-1] is c and list(model) == [a, b, c]
    assert isinstance(model[:2], nn.Sequential) and list(model[:2]) == [a, b]
    model[1] = nn.Tanh()
    del model[0]
    assert list(dict(model.named_children())) == ["0", "1"] and model[1] is c
    model.insert(0, a).append(b)
    assert list(model)[0] is a and list(model)[-1] is b
    assert list(model + nn.Sequential(c))[-1] is c
    assert len(model * 2) == 8 and model.pop(-1) is b and len(model) == 3
    model.extend([a, b])
    assert len(model) == 5
    named = nn.Sequential(OrderedDict(first=a, second=c))
    assert named.first is a
    for call, error in (
        (lambda: model[9], IndexError),
        (lambda: model.insert(9, a), IndexError),
        (lambda: model + [a], ValueError),
        (lambda: model * 0, ValueError),
        (lambda: model * 1.5, TypeError),
    ):
        with pytest.raises(error):
            call()


def test_module_list_and_dict():
    modules = nn.ModuleList([nn.Linear(1, 1), nn.ReLU()])
    modules.append(nn.Tanh()).extend([nn.Identity()])
    modules.insert(1, nn.Sigmoid())
    assert [type(m).__name__ for m in modules] == ["Linear", "Sigmoid", "ReLU", "Tanh", "Identity"]
    assert isinstance(modules[1:3], nn.ModuleList) and len(modules[1:3]) == 2
    del modules[0]
    modules += [nn.Linear(2, 2)]
    assert list(modules.state_dict()) == ["4.weight", "4.bias"]
    with pytest.raises(TypeError, match="ModuleList.extend should be called with an iterable, but got int"):
        modules.extend(3)
    with pytest.raises(NotImplementedError):
        modules(1)

    named = nn.ModuleDict({"a": nn.Linear(1, 1)})
    named["b"] = nn.ReLU()
    named.update([("c", nn.Tanh())])
    assert list(named) == list(named.keys()) == ["a", "b", "c"] and "b" in named
    named.pop("b")
    del named["c"]
    assert len(named) == 1 and list(named.state_dict()) == ["a.weight", "a.bias"]
    with pytest.raises(ValueError, match="ModuleDict update sequence element #0 has length 1; 2 is required"):
        named.update([["x"]])


def test_parameter_list_and_dict():
    values = nn.ParameterList([pe.ones(2), nn.Parameter(pe.zeros(3, 2)), "text"])
    assert len(list(values.parameters())) == 2 and isinstance(values[0], nn.Parameter) and values[-1] == "text"
    values[0] = pe.zeros(1)
    values += [pe.ones(1)]
    assert len(values) == 4 and len(values[:2]) == 2 and list(values.state_dict()) == ["0", "1", "3"]
    assert "(1): Parameter containing: [" in repr(values) and "of size 3x2]" in repr(values)
    with pytest.raises(RuntimeError, match="ParameterList should not be called"):
        values()

    named = nn.ParameterDict({"a": pe.ones(2)})
    named["b"] = pe.zeros(1)
    assert list(named) == ["a", "b"] and len(list(named.parameters())) == 2 and named.get("z", 5) == 5
    assert (named | nn.ParameterDict({"c": pe.ones(1)})).popitem()[0] == "c"
    del named["a"]
    assert list(named.state_dict()) == ["b"] and named.setdefault("b") is named["b"]
    named.clear()
    assert len(named) == 0


# --- layers: values and gradients against PyTorch's

CASES = [
    (lambda nn: nn.Linear(5, 3), (4, 5)),
    (lambda nn: nn.Linear(5, 3, bias=False), (2, 4, 5)),
    (lambda nn: nn.Conv2d(2, 4, 3), (2, 2, 7, 6)),
    (lambda nn: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), (2, 4, 9, 8)),
    (lambda nn: nn.Conv2d(2, 4, 4, padding="same"), (2, 2, 7, 6)),
    (lambda nn: nn.Conv2d(2, 4, 3, padding="valid"), (2, 7, 6)),
    (lambda nn: nn.Conv2d(2, 4, (3, 5), padding=(1, 2), padding_mode="reflect"), (2, 2, 7, 6)),
    (lambda nn: nn.Conv2d(2, 4, 3, padding=2, padding_mode="replicate"), (2, 2, 7, 6)),
    (lambda nn: nn.Conv2d(2, 4, 3, padding=(1, 2), padding_mode="circular"), (2, 2, 7, 6)),
    (lambda nn: nn.Conv2d(2, 4, 4, padding="same", padding_mode="circular"), (2, 2, 7, 6)),
    (lambda nn: nn.BatchNorm1d(3), (5, 3)),
    (lambda nn: nn.BatchNorm1d(3, momentum=None), (5, 3, 4)),
    (lambda nn: nn.BatchNorm2d(3, affine=False), (2, 3, 4, 5)),
    (lambda nn: nn.BatchNorm2d(3, track_running_stats=False, eps=1e-2), (2, 3, 4, 5)),
    (lambda nn: nn.LayerNorm(6), (2, 7, 6)),
    (lambda nn: nn.LayerNorm((3, 4), eps=1e-3, bias=False), (2, 3, 4)),
    (lambda nn: nn.LayerNorm([4], elementwise_affine=False), (5, 4)),
    (lambda nn: nn.MaxPool2d(2), (2, 3, 7, 6)),
    (lambda nn: nn.MaxPool2d((3, 2), stride=2, padding=1, ceil_mode=True), (2, 3, 7, 6)),
    (lambda nn: nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), (2, 3, 7, 6)),
    (lambda nn: nn.AvgPool2d(2, divisor_override=3), (2, 3, 7, 6)),
    (lambda nn: nn.AdaptiveAvgPool2d((2, None)), (2, 3, 7, 6)),
    (lambda nn: nn.AdaptiveMaxPool2d(3), (2, 3, 7, 6)),
    (lambda nn: nn.Flatten(), (2, 3, 4)),
    (lambda nn: nn.Unflatten(1, (2, 3)), (2, 6)),
    (lambda nn: nn.Identity(3, x=4), (2, 3)),
    *(
        (lambda nn, name=name, args=args: getattr(nn, name)(*args), (3, 4, 5))
        for name, args in [
            ("ReLU", ()),
            ("ReLU6", ()),
            ("LeakyReLU", (0.2,)),
            ("ELU", (0.7,)),
            ("CELU", (0.7,)),
            ("SELU", ()),
            ("Sigmoid", ()),
            ("LogSigmoid", ()),
            ("Tanh", ()),
            ("Softplus", (2.0, 3.0)),
            ("SiLU", ()),
            ("GELU", ()),
            ("GELU", ("tanh",)),
            ("Hardtanh", (-0.5, 0.7)),
            ("Hardsigmoid", ()),
            ("Hardswish", ()),
            ("Mish", ()),
            ("PReLU", ()),
            ("PReLU", (4,)),
            ("Softmax", (1,)),
            ("Softmin", (1,)),
            ("LogSoftmax", (-1,)),
            ("Softsign", ()),
            ("Tanhshrink", ()),
            ("Threshold", (0.1, 2.0)),
            ("Hardshrink", ()),
            ("Softshrink", ()),
            ("GLU", (1,)),
            ("Softmax2d", ()),
        ]
    ),
]


def assert_close(ours, theirs, name):
    """Gradients that are sums: each may be off by what float32 rounds at the size of the largest."""
    reference = theirs.numpy()
    atol = 1e-5 * max(1, np.abs(reference).max(initial=0))
    np.testing.assert_allclose(to_numpy(ours), reference, rtol=1e-5, atol=atol, err_msg=name)


def check_against_torch(make, shape, torch):
    ours, theirs = make(nn), make(torch.nn)
    ours.load_state_dict({name: tensor(value.numpy()) for name, value in theirs.state_dict().items()})
    for step in range(2):
        array = random(*shape, seed=step) * 2
        x, y = tensor(array, True), torch.tensor(array, requires_grad=True)
        a, b = ours(x), theirs(y)
        weights = random(*b.shape, seed=9)
        (a * tensor(weights)).sum().backward()
        (b * torch.tensor(weights)).sum().backward()
        np.testing.assert_allclose(to_numpy(a), b.detach().numpy(), rtol=1e-5, atol=2e-6)
        assert_close(x.grad, y.grad, "input")
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert_close(p.grad, q.grad, name)
    for (name, value), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(to_numpy(value), other.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
    array = random(*shape, seed=5)
    ours.eval(), theirs.eval()
    np.testing.assert_allclose(
        to_numpy(ours(tensor(array))), theirs(torch.tensor(array)).detach().numpy(), rtol=1e-5, atol=2e-6
    )


@pytest.mark.filterwarnings("ignore:Using padding=.same.")  # PyTorch pads the input then
@pytest.mark.parametrize(("make", "shape"), CASES)
def test_layer(make, shape, torch):
    check_against_torch(make, shape, torch)


def test_pooling_indices(torch):
    x = random(2, 3, 6, 6)
    for make in (lambda nn: nn.MaxPool2d(2, return_indices=True), lambda nn: nn.AdaptiveMaxPool2d(2, True)):
        (a, i), (b, j) = make(nn)(tensor(x)), make(torch.nn)(torch.tensor(x))
        np.testing.assert_array_equal(to_numpy(i), j.numpy())
        np.testing.assert_array_equal(to_numpy(a), b.numpy())


@pytest.mark.parametrize(
    "name",
    ["ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "SiLU", "Mish", "Hardswish", "Hardsigmoid", "Hardtanh"],
)
def test_in_place(name):
    x = tensor(random(3, 4), True)
    out_of_place = getattr(nn, name)()(x * 1)
    (g,) = pe.autograd.grad(out_of_place.sum(), [x])
    y = x * 1
    z = getattr(nn, name)(inplace=True)(y)
    assert z is y or z.data_ptr() == y.data_ptr()
    np.testing.assert_array_equal(to_numpy(y), to_numpy(out_of_place))
    y.sum().backward()
    np.testing.assert_allclose(to_numpy(x.grad), to_numpy(g), rtol=1e-6)


def test_dropout():
    x = pe.ones(200, 100)
    layer = nn.Dropout(0.25)
    y = to_numpy(layer(x))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.02
    assert layer.eval()(x) is x or np.array_equal(to_numpy(layer(x)), to_numpy(x))
    y = to_numpy(nn.Dropout2d(0.5)(pe.ones(40, 10, 3, 3))).reshape(400, 9)
    assert ((y == 0).all(1) | (y == 2).all(1)).all() and 0.3 < (y == 0).mean() < 0.7
    assert to_numpy(F.dropout(x, 1.0)).sum() == 0 and to_numpy(F.dropout2d(pe.ones(2, 2, 2, 2), 1.0)).sum() == 0
    for make in (nn.Dropout, nn.Dropout2d, lambda p: F.dropout(x, p)):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got 1.5"):
            make(1.5)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "out_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 4, 3, groups=0), ValueError, "groups must be a positive integer"),
        (lambda: nn.Conv2d(4, 4, 3, padding="full"), ValueError, "Invalid padding string 'full'"),
        (lambda: nn.Conv2d(4, 4, 3, 2, padding="same"), ValueError, "padding='same' is not supported for strided"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="x"), ValueError, "but got padding_mode='x'"),
        (lambda: nn.Conv2d(4, 4, (1, 2, 3)), ValueError, "expected an int or a pair of ints"),
        (lambda: nn.BatchNorm2d(2)(pe.ones(2, 2)), ValueError, "expected 4D input (got 2D input)"),
        (lambda: nn.BatchNorm1d(2)(pe.ones(2)), ValueError, "expected 2D or 3D input (got 1D input)"),
        (lambda: nn.BatchNorm1d(2)(pe.ones(1, 2)), ValueError, "more than 1 value per channel"),
        (lambda: nn.LayerNorm((2, 3))(pe.ones(4, 3, 2)), ValueError, "dimensions are (2, 3), got input size (4, 3, 2)"),
        (lambda: F.layer_norm(pe.ones(4, 3), 3, pe.ones(2)), RuntimeError, "expected weight of shape (3,), got (2,)"),
        (lambda: F.layer_norm(pe.ones(3), ()), ValueError, "last dimensions are ()"),
        (lambda: F.layer_norm(pe.ones(2, dtype=pe.int64), 2), TypeError, "expected a floating point tensor"),
        (lambda: nn.Unflatten(1, 3), TypeError, "unflattened_size must be tuple"),
        (lambda: nn.Softmax2d()(pe.ones(2)), ValueError, "expected input to be 3D or 4D, got 1D instead"),
        (lambda: F.glu(pe.ones(3)), RuntimeError, "Halving dimension must be even"),
        (lambda: F.mse_loss(pe.ones(1), pe.ones(1), reduction="x"), ValueError, "x is not a valid value for reduction"),
    ],
)
def test_layer_errors(make, error, text):
    with pytest.raises(error) as info:
        make()
    assert text in str(info.value)


# --- losses

WEIGHT = object()  # stands for a weight in the cases below


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("name", "options", "target"),
    [
        ("CrossEntropyLoss", {}, "index"),
        ("CrossEntropyLoss", {"label_smoothing": 0.1, "weight": WEIGHT, "ignore_index": 2}, "index"),
        ("NLLLoss", {"weight": WEIGHT}, "index"),
        ("MSELoss", {}, "value"),
        ("L1Loss", {}, "value"),
        ("SmoothL1Loss", {"beta": 0.5}, "value"),
        ("SmoothL1Loss", {"beta": 0.0}, "value"),
        ("HuberLoss", {"delta": 0.5}, "value"),
        ("BCELoss", {}, "probability"),
        ("BCELoss", {"weight": WEIGHT}, "probability"),
        ("BCEWithLogitsLoss", {}, "probability"),
        ("BCEWithLogitsLoss", {"pos_weight": WEIGHT, "weight": WEIGHT}, "probability"),
        ("KLDivLoss", {}, "probability"),
        ("KLDivLoss", {"log_target": True}, "value"),
    ],
)
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
def test_loss(name, options, target, reduction, torch):
    input = random(4, 5)
    if name == "BCELoss":
        input = np.random.default_rng(0).random((4, 5), dtype=np.float32)
        input[0, 0], input[0, 1] = 0.0, 1.0
    goal = {
        "index": np.array([1, 0, 2, 4]),
        "value": random(4, 5, seed=1),
        "probability": np.random.default_rng(1).random((4, 5), dtype=np.float32),
    }[target]
    if target == "probability":
        goal[0, :2] = 0.0, 1.0
    weight = np.abs(random(5, seed=3)) + 0.1
    ours = {k: tensor(weight) if v is WEIGHT else v for k, v in options.items()}
    theirs = {k: torch.tensor(weight) if v is WEIGHT else v for k, v in options.items()}
    x, y = tensor(input, True), torch.tensor(input, requires_grad=True)
    a = getattr(nn, name)(reduction=reduction, **ours)(x, tensor(goal))
    b = getattr(torch.nn, name)(reduction=reduction, **theirs)(y, torch.tensor(goal))
    np.testing.assert_allclose(to_numpy(a), b.detach().numpy(), rtol=1e-5, atol=1e-6)
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_allclose(to_numpy(x.grad), y.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_other_functions(torch):
    x = random(3, 4)
    np.testing.assert_allclose(
        to_numpy(F.normalize(tensor(x), dim=0)), torch.nn.functional.normalize(torch.tensor(x), dim=0), rtol=1e-6
    )
    np.testing.assert_allclose(to_numpy(F.normalize(tensor(x), p=1)), x / np.abs(x).sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(to_numpy(F.one_hot(tensor(np.array([1, 0, 2])), 4)), np.eye(4)[[1, 0, 2]])
    np.testing.assert_array_equal(
        to_numpy(F.pad(tensor(x), (1, 2), value=5.0)), np.pad(x, ((0, 0), (1, 2)), constant_values=5)
    )
    np.testing.assert_allclose(
        to_numpy(F.kl_div(tensor(x), tensor(np.abs(x)), reduction="batchmean")),
        torch.nn.functional.kl_div(torch.tensor(x), torch.tensor(np.abs(x)), reduction="batchmean"),
        rtol=1e-5,
    )
    with pytest.warns(UserWarning, match="Using a target size"):
        F.mse_loss(pe.ones(3, 1), pe.ones(3))
    with pytest.warns(UserWarning, match="Implicit dimension choice for softmax"):
        F.softmax(pe.ones(2, 2))
    with pytest.warns(UserWarning, match="please use reduction='sum'"):
        assert F.mse_loss(pe.zeros(4), pe.ones(4), size_average=False).item() == 4
    with pytest.raises(ValueError, match="Target size"):
        F.binary_cross_entropy_with_logits(pe.ones(2), pe.ones(3))
    with pytest.raises(RuntimeError, match="all elements of input should be between 0 and 1"):
        F.binary_cross_entropy(pe.ones(2) * 2, pe.ones(2))


# --- nn.utils


def test_clip_grad(torch):
    arrays = [random(3, 4, seed=i) for i in range(3)]
    for norm_type in (2.0, 1.0, float("inf")):
        ours = [tensor(a, True) for a in arrays]
        theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
        for p, q, a in zip(ours[:2], theirs[:2], arrays, strict=False):
            p.grad, q.grad = tensor(a * 3), torch.tensor(a * 3)
        norm = nn.utils.clip_grad_norm_(ours, 0.5, norm_type)
        expected = torch.nn.utils.clip_grad_norm_(theirs, 0.5, norm_type)
        np.testing.assert_allclose(norm.item(), expected.item(), rtol=1e-6)
        for p, q in zip(ours[:2], theirs[:2], strict=True):
            np.testing.assert_allclose(to_numpy(p.grad), q.grad.numpy(), rtol=1e-5)
    nn.utils.clip_grad_value_(ours, 0.01)
    assert max(float(p.grad.abs().max()) for p in ours[:2]) <= 0.01
    ours[0].grad = tensor(np.full((3, 4), np.nan, np.float32))
    with pytest.raises(RuntimeError, match="is non-finite, so it cannot be clipped"):
        nn.utils.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
    assert nn.utils.clip_grad_norm_([pe.ones(1)], 1.0).item() == 0


def test_parameters_as_vector():
    model = Net()
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert vector.shape == (sum(p.numel() for p in model.parameters()),)
    other = Net()
    nn.utils.vector_to_parameters(vector, other.parameters())
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(to_numpy(p), to_numpy(q))
    with pytest.raises(TypeError, match="but got: list"):
        nn.utils.vector_to_parameters([1.0], other.parameters())
