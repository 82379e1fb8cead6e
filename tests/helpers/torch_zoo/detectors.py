"""Necks and heads of detectors, and older classifiers: YOLO, FPN, Xception, LRN."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class C2f(nn.Module):
    """Splits the channels, and keeps what every bottleneck made."""

    def __init__(self, c1, c2, n=1):
        super().__init__()
        self.c = c2 // 2
        self.cv1 = Conv(c1, 2 * self.c)
        self.cv2 = Conv((2 + n) * self.c, c2)
        self.m = nn.ModuleList(Conv(self.c, self.c, 3) for _ in range(n))

    def forward(self, x):
        y = list(self.cv1(x).split((self.c, self.c), 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class SPPF(nn.Module):
    def __init__(self, c1, c2, k=3):
        super().__init__()
        self.cv1 = Conv(c1, c1 // 2)
        self.cv2 = Conv(c1 * 2, c2)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)

    def forward(self, x):
        x = self.cv1(x)
        y1 = self.m(x)
        y2 = self.m(y1)
        return self.cv2(torch.cat((x, y1, y2, self.m(y2)), 1))


class YOLO(nn.Module):
    """A backbone, a top-down neck, and a map of scores and boxes."""

    def __init__(self, outputs=6):
        super().__init__()
        self.stem = Conv(3, 8, 3, 2)
        self.c2f = C2f(8, 12)
        self.down = Conv(12, 16, 3, 2)
        self.sppf = SPPF(16, 16)
        self.upsample = nn.Upsample(None, 2, "nearest")
        self.neck = C2f(28, 12)
        self.detect = nn.Conv2d(12, outputs, 1)

    def forward(self, x):
        p1 = self.c2f(self.stem(x))
        p2 = self.sppf(self.down(p1))
        x = torch.cat([self.upsample(p2), p1], 1)
        return self.detect(self.neck(x))


class FPN(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.c2 = nn.Conv2d(8, 12, 3, 2, 1)
        self.lateral1, self.lateral2 = nn.Conv2d(8, 8, 1), nn.Conv2d(12, 8, 1)
        self.smooth = nn.Conv2d(8, 8, 3, padding=1)
        self.fuse = nn.Parameter(torch.ones(2))
        self.out = nn.Conv2d(8, classes, 1)

    def _upsample_add(self, x, y):
        _, _, H, W = y.size()
        return F.interpolate(x, size=(H, W), mode="nearest") + y

    def forward(self, x):
        c1 = F.elu(self.c1(x))
        c2 = F.elu(self.c2(c1))
        p2 = self.lateral2(c2)
        p1 = self._upsample_add(p2, self.lateral1(c1))
        p1 = self.fuse[0] * p1 + self.fuse[1] * c1
        return self.out(self.smooth(p1))


class WeightedFusion(nn.Module):
    """BiFPN's: weights that are kept positive and sum to one."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.w = nn.Parameter(torch.ones(2))
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        w = F.relu(self.w)
        w = w / (w.sum() + 1e-4)
        return self.out(F.silu(w[0] * self.a(x) + w[1] * self.b(x)))


class SeparableConv2d(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.conv1(x))


class Xception(nn.Module):
    def __init__(self, classes=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 0, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.rep = nn.Sequential(
            nn.ReLU(inplace=False),
            SeparableConv2d(8, 16),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            SeparableConv2d(16, 16),
            nn.BatchNorm2d(16),
            nn.MaxPool2d(3, 2, 1),
        )
        self.skip = nn.Conv2d(8, 16, 1, stride=2, bias=False)
        self.skipbn = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        x = self.bn1(self.conv1(x))
        y = self.rep(x)
        y += self.skipbn(self.skip(x))
        y = F.relu(y)
        y = F.adaptive_avg_pool2d(y, (1, 1))
        y = y.view(y.size(0), -1)
        return F.log_softmax(self.fc(y), dim=1)


class OldNet(nn.Module):
    """Local response normalization and ceiling pools, as in 2012."""

    def __init__(self, classes=5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5, stride=2)
        self.lrn = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
        self.pool = nn.MaxPool2d(3, 2)
        self.fc = nn.Linear(8 * 16, classes)

    def forward(self, x):
        x = self.pool(self.lrn(F.relu(self.conv1(x))))
        return self.fc(x.flatten(start_dim=1))


class RecurrentPictures(nn.Module):
    """A convolutional LSTM over a few frames."""

    def __init__(self, channels=6):
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(1 + channels, 4 * channels, 3, padding=1)
        self.out = nn.Conv2d(channels, 1, 1)

    def forward(self, frames):
        b, t, _, h, w = frames.size()
        hidden = frames.new_zeros(b, self.channels, h, w)
        cell = frames.new_zeros(b, self.channels, h, w)
        for i in range(t):
            combined = torch.cat([frames[:, i], hidden], dim=1)
            cc = self.conv(combined)
            cc_i, cc_f, cc_o, cc_g = torch.split(cc, self.channels, dim=1)
            i_, f_, o_ = torch.sigmoid(cc_i), torch.sigmoid(cc_f), torch.sigmoid(cc_o)
            cell = f_ * cell + i_ * torch.tanh(cc_g)
            hidden = o_ * torch.tanh(cell)
        return self.out(hidden)


class SpatialTransformer(nn.Module):
    """Samples a picture at places that it computes itself."""

    def __init__(self):
        super().__init__()
        self.localize = nn.Linear(64, 6)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        theta = self.localize(x.flatten(1)).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return self.conv(F.grid_sample(x, grid, align_corners=False))


class WeightNormed(nn.Module):
    """Weights that are computed from a direction and a length."""

    def __init__(self):
        super().__init__()
        weight_norm = nn.utils.parametrizations.weight_norm
        self.conv = weight_norm(nn.Conv1d(3, 8, 3, padding=1))
        self.fc = weight_norm(nn.Linear(8, 2), dim=0)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean(-1))


@model("yolo")
def yolo():
    return YOLO(), (torch.randn(3, 3, 16, 16),), "mse"


@model("fpn")
def fpn():
    loss = ("cross_softmax", {"per_token": True, "axis": 1})
    return FPN(), (torch.randn(3, 3, 16, 16),), loss


@model("weighted_fusion")
def weighted_fusion():
    return WeightedFusion(), (torch.randn(3, 3, 8, 8),), "mse"


@model("xception")
def xception():
    return Xception(), (torch.randn(4, 3, 17, 17),), "cross_softmax"


@model("local_response_norm")
def local_response_norm():
    return OldNet(), (torch.randn(3, 3, 21, 21),), "cross_softmax"


@model("conv_lstm")
def conv_lstm():
    return RecurrentPictures(), (torch.randn(3, 3, 1, 6, 6),), "mse"


@model("spatial_transformer")
def spatial_transformer():
    return SpatialTransformer(), (torch.randn(3, 1, 8, 8),), "mse"


@model("weight_norm")
def weight_norm():
    return WeightNormed(), (torch.randn(3, 3, 10),), "mse"
