"""Convolutions over time: TCN, WaveNet, TextCNN, keyword CNN, 1-d ResNet."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.recurrent import tokens
from helpers.torch_zoo.registry import model


class Chomp1d(nn.Module):
    def __init__(self, chomp_size):
        super().__init__()
        self.chomp_size = chomp_size

    def forward(self, x):
        return x[:, :, : -self.chomp_size].contiguous()


class TemporalBlock(nn.Module):
    def __init__(self, inputs, outputs, kernel, dilation, dropout=0.2):
        super().__init__()
        padding = (kernel - 1) * dilation
        more = {"padding": padding, "dilation": dilation}
        self.net = nn.Sequential(
            nn.Conv1d(inputs, outputs, kernel, **more),
            Chomp1d(padding),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(outputs, outputs, kernel, **more),
            Chomp1d(padding),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.downsample = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.net(x)
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(out + res)


class TCN(nn.Module):
    def __init__(self, inputs=4, classes=5):
        super().__init__()
        self.network = nn.Sequential(
            TemporalBlock(inputs, 12, 3, 1),
            TemporalBlock(12, 12, 3, 2),
            TemporalBlock(12, 12, 3, 4),
        )
        self.linear = nn.Linear(12, classes)

    def forward(self, x):
        y = self.network(x)
        return self.linear(y[:, :, -1])


class CausalConv1d(nn.Conv1d):
    def forward(self, x):
        x = F.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0))
        return super().forward(x)


class WaveNet(nn.Module):
    """Gated, dilated, causal; the sum of all skips is what is classified."""

    def __init__(self, residual=12, skip=16, layers=3, outputs=8):
        super().__init__()
        self.front = CausalConv1d(1, residual, 2)
        self.filters = nn.ModuleList()
        self.gates = nn.ModuleList()
        self.res = nn.ModuleList()
        self.skips = nn.ModuleList()
        for i in range(layers):
            self.filters.append(CausalConv1d(residual, residual, 2, dilation=2**i))
            self.gates.append(CausalConv1d(residual, residual, 2, dilation=2**i))
            # the residual of the last layer is read by nobody
            if i + 1 < layers:
                self.res.append(nn.Conv1d(residual, residual, 1))
            self.skips.append(nn.Conv1d(residual, skip, 1))
        self.end1 = nn.Conv1d(skip, skip, 1)
        self.end2 = nn.Conv1d(skip, outputs, 1)

    def forward(self, x):
        x = self.front(x)
        total = 0
        for i, (f, g) in enumerate(zip(self.filters, self.gates, strict=True)):
            out = torch.tanh(f(x)) * torch.sigmoid(g(x))
            total = self.skips[i](out) + total
            if i < len(self.res):
                x = self.res[i](out) + x
        x = self.end2(F.relu(self.end1(F.relu(total))))
        return x.transpose(1, 2)


class TextCNN(nn.Module):
    """Kim's: convolutions of three widths over embeddings, the maximum over time."""

    def __init__(self, vocabulary=40, dim=16, filters=8, classes=3):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.convs = nn.ModuleList(
            [nn.Conv2d(1, filters, (size, dim)) for size in (2, 3, 4)]
        )
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(3 * filters, classes)

    def forward(self, text):
        embedded = self.embedding(text).unsqueeze(1)
        conved = [F.relu(conv(embedded)).squeeze(3) for conv in self.convs]
        pooled = [F.max_pool1d(c, c.shape[2]).squeeze(2) for c in conved]
        return self.fc(self.dropout(torch.cat(pooled, dim=1)))


class SensorCNN(nn.Module):
    """Activity from an accelerometer: convolution, norm and pooling over time."""

    def __init__(self, classes=6):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 12, 5, stride=2, padding=2)
        self.bn1 = nn.BatchNorm1d(12)
        self.pool = nn.MaxPool1d(2)
        self.conv2 = nn.Conv1d(12, 16, 3, padding=1, groups=4)
        self.bn2 = nn.BatchNorm1d(16)
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        x = self.pool(F.leaky_relu(self.bn1(self.conv1(x)), 0.1))
        x = F.leaky_relu(self.bn2(self.conv2(x)), 0.1)
        x = F.adaptive_avg_pool1d(x, 1).squeeze(-1)
        return self.fc(x)


class GatedConv(nn.Module):
    """Gated linear units over time, as Dauphin's language model has them."""

    def __init__(self, vocabulary=30, dim=16):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.conv1 = nn.Conv1d(dim, 2 * dim, 3)
        self.conv2 = nn.Conv1d(dim, 2 * dim, 3)
        self.fc = nn.Linear(dim, vocabulary)

    def forward(self, tokens):
        x = self.embedding(tokens).permute(0, 2, 1)
        x = x + F.glu(self.conv1(F.pad(x, (2, 0))), dim=1)
        a, b = self.conv2(F.pad(x, (2, 0))).chunk(2, 1)
        x = x + a * torch.sigmoid(b)
        return self.fc(x.permute(0, 2, 1))


@model("tcn")
def tcn():
    return TCN(), (torch.randn(3, 4, 20),), "cross_softmax"


@model("wavenet")
def wavenet():
    loss = ("cross_softmax", {"per_token": True})
    return WaveNet(), (torch.randn(3, 1, 16),), loss


@model("text_cnn")
def text_cnn():
    return TextCNN(), (tokens(3, 12, 40),), "cross_softmax"


@model("sensor_cnn")
def sensor_cnn():
    return SensorCNN(), (torch.randn(4, 3, 32),), "cross_softmax"


@model("gated_conv")
def gated_conv():
    loss = ("cross_softmax", {"per_token": True})
    return GatedConv(), (tokens(3, 10, 30),), loss
