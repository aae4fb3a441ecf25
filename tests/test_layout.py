"""Channels-last tensors stay so: the blocks of convolutional networks copy nothing only to change a memory layout."""

from __future__ import annotations

import numpy as np
import pytest

import pyengine as pe
from pyengine import nn
from pyengine.nn import functional as F


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(dim, dim, 7, padding=3, groups=dim), nn.LayerNorm(dim, eps=1e-6)
        self.expand, self.project = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.scale = nn.Parameter(pe.full((dim,), 0.1))

    def forward(self, x):
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.project(F.gelu(self.expand(self.norm(y)))) * self.scale
        return x + y.permute(0, 3, 1, 2)


class Downsample(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm, self.conv = nn.LayerNorm(dim), nn.Conv2d(dim, 2 * dim, 2, 2)

    def forward(self, x):
        return self.conv(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class Bottleneck(nn.Module):
    def __init__(self, dim, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim)
        self.conv2, self.bn2 = nn.Conv2d(dim, dim, 3, stride, 1, groups=2, bias=False), nn.BatchNorm2d(dim)
        self.conv3, self.bn3 = nn.Conv2d(dim, 2 * dim, 1), nn.BatchNorm2d(2 * dim)
        self.shortcut = nn.Sequential(nn.Conv2d(dim, 2 * dim, 1, stride, bias=False), nn.BatchNorm2d(2 * dim))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class Head(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc = nn.Linear(dim, 10)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


def convnext():
    return nn.Sequential(ConvNeXtBlock(32), ConvNeXtBlock(32), Downsample(32), ConvNeXtBlock(64), Head(64))


def resnet():
    return nn.Sequential(
        Bottleneck(32, 1), Bottleneck(64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)
    )


def vgg():
    first = [nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.1)]
    return nn.Sequential(*first, nn.Conv2d(64, 32, 3), nn.Tanh(), nn.AvgPool2d(2, 1), Head(32))


@pytest.mark.parametrize("make", [convnext, resnet, vgg])
def test_no_layout_is_converted(make):
    pe.manual_seed(0)
    model = make()
    x = pe.randn(2, 32, 10, 8).contiguous(memory_format=pe.channels_last).requires_grad_()
    before = pe._C.layout_conversions()
    model(x).square().mean().backward()
    assert pe._C.layout_conversions() == before
    assert x.grad.is_contiguous(memory_format=pe.channels_last)
    assert np.isfinite(x.grad.numpy()).all()


def test_the_counter_counts():
    x = pe.randn(2, 32, 4, 4)
    before = pe._C.layout_conversions()
    F.conv2d(x, pe.randn(32, 32, 1, 1))
    assert pe._C.layout_conversions() == before + 1
