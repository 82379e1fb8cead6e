"""The four networks of MLPerf Tiny, narrower."""

from __future__ import annotations

import itertools

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model


class DSConv(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        x = F.relu(self.bn1(self.depthwise(x)))
        return F.relu(self.bn2(self.pointwise(x)))


class DSCNN(nn.Module):
    """Keyword spotting: windows of spectra as pictures of one channel."""

    def __init__(self, filters=16, classes=12):
        super().__init__()
        self.conv = nn.Conv2d(1, filters, (10, 4), stride=(2, 2), padding=(5, 1))
        self.bn = nn.BatchNorm2d(filters)
        self.drop = nn.Dropout(0.2)
        self.blocks = nn.Sequential(*(DSConv(filters, filters) for _ in range(3)))
        self.pool = nn.AvgPool2d((13, 5))
        self.fc = nn.Linear(filters, classes)

    def forward(self, x):
        x = x.unsqueeze(1)  # (N, time, coefficients)
        x = self.drop(F.relu(self.bn(self.conv(x))))
        x = self.pool(self.blocks(x))
        return self.fc(x.squeeze(-1).squeeze(-1))


class ResNet8(nn.Module):
    """Image classification: three stacks of one block."""

    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.convs = nn.ModuleList()
        self.shortcuts = nn.ModuleList()
        inputs = 16
        for filters, stride in [(16, 1), (24, 2), (32, 2)]:
            self.convs.append(
                nn.Sequential(
                    nn.Conv2d(inputs, filters, 3, stride, padding=1),
                    nn.BatchNorm2d(filters),
                    nn.ReLU(),
                    nn.Conv2d(filters, filters, 3, padding=1),
                    nn.BatchNorm2d(filters),
                )
            )
            plain = stride == 1 and inputs == filters
            shortcut = nn.Identity() if plain else nn.Conv2d(inputs, filters, 1, stride)
            self.shortcuts.append(shortcut)
            inputs = filters
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        x = self.stem(x)
        for conv, shortcut in zip(self.convs, self.shortcuts, strict=True):
            x = F.relu(conv(x) + shortcut(x))
        x = F.avg_pool2d(x, x.shape[-1])
        return self.fc(x.flatten(1))


class AnomalyAutoencoder(nn.Module):
    """Anomaly detection: dense layers with batch normalization."""

    def __init__(self, inputs=64, width=32, code=8):
        super().__init__()
        sizes = [inputs, width, width, code, width, width]
        self.layers = nn.ModuleList()
        for a, b in itertools.pairwise(sizes):
            self.layers.append(nn.Linear(a, b))
            self.layers.append(nn.BatchNorm1d(b, eps=1e-3, momentum=0.01))
            self.layers.append(nn.ReLU())
        self.out = nn.Linear(width, inputs)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.out(x)


class MobileNetV1(nn.Module):
    """Visual wake words: a quarter of the width, fewer blocks."""

    def __init__(self, classes=2):
        super().__init__()

        def conv_bn(inputs, outputs, stride):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU6(inplace=True),
            )

        def conv_dw(inputs, outputs, stride):
            return nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.ReLU6(inplace=True),
                nn.Conv2d(inputs, outputs, 1, 1, 0, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU6(inplace=True),
            )

        self.model = nn.Sequential(
            conv_bn(3, 8, 2),
            conv_dw(8, 16, 1),
            conv_dw(16, 32, 2),
            conv_dw(32, 32, 1),
            nn.AvgPool2d(6),
        )
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        x = self.model(x)
        x = x.view(-1, 32)
        return self.fc(x)


@model("ds_cnn")
def ds_cnn():
    return DSCNN(), (torch.randn(4, 25, 10),), "cross_softmax"


@model("resnet8")
def resnet8():
    return ResNet8(), (torch.randn(4, 3, 16, 16),), "cross_softmax"


@model("anomaly_autoencoder")
def anomaly_autoencoder():
    return AnomalyAutoencoder(), (torch.randn(8, 64),), "mse"


@model("mobilenet_v1")
def mobilenet_v1():
    return MobileNetV1(), (torch.randn(4, 3, 24, 24),), "cross_softmax"
