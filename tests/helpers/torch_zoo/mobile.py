"""Networks for phones: MobileNet 2 and 3, ShuffleNet, EfficientNet, GhostNet."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model


class ConvBNReLU(nn.Sequential):
    def __init__(self, inputs, outputs, kernel=3, stride=1, groups=1, act=nn.ReLU6):
        layers = [
            nn.Conv2d(
                inputs,
                outputs,
                kernel,
                stride,
                (kernel - 1) // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(outputs),
        ]
        if act is not None:
            layers.append(act(inplace=True))
        super().__init__(*layers)


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expand, act=nn.ReLU6):
        super().__init__()
        hidden = round(inputs * expand)
        self.use_res_connect = stride == 1 and inputs == outputs
        layers = []
        if expand != 1:
            layers.append(ConvBNReLU(inputs, hidden, kernel=1, act=act))
        layers += [
            ConvBNReLU(hidden, hidden, stride=stride, groups=hidden, act=act),
            nn.Conv2d(hidden, outputs, 1, 1, 0, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        features = [ConvBNReLU(3, 8, stride=2)]
        inputs = 8
        for expand, outputs, number, stride in [(1, 8, 1, 1), (6, 12, 2, 2)]:
            for i in range(number):
                stride_here = stride if i == 0 else 1
                features.append(InvertedResidual(inputs, outputs, stride_here, expand))
                inputs = outputs
        features.append(ConvBNReLU(inputs, 48, kernel=1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(48, classes))

    def forward(self, x):
        x = self.features(x)
        x = nn.functional.adaptive_avg_pool2d(x, (1, 1)).reshape(x.shape[0], -1)
        return self.classifier(x)


class MNASNet(nn.Module):
    """Batch normalization with the momentum of torchvision's MNASNet."""

    def __init__(self, classes=10, momentum=1 - 0.9997):
        super().__init__()

        def bn(channels):
            return nn.BatchNorm2d(channels, momentum=momentum)

        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2, bias=False),
            bn(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
            bn(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 1, bias=False),
            bn(8),
            nn.Conv2d(8, 24, 1, bias=False),
            bn(24),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, 24, 5, padding=2, stride=2, groups=24, bias=False),
            bn(24),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, 12, 1, bias=False),
            bn(12),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(p=0.2, inplace=True), nn.Linear(12, classes)
        )

    def forward(self, x):
        x = self.layers(x)
        x = x.mean([2, 3])
        return self.classifier(x)


def make_divisible(v, divisor=4):
    new = max(divisor, int(v + divisor / 2) // divisor * divisor)
    return new + divisor if new < 0.9 * v else new


class SEModule(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, make_divisible(channels // reduction)),
            nn.ReLU(inplace=True),
            nn.Linear(make_divisible(channels // reduction), channels),
            nn.Hardsigmoid(inplace=True),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class MobileNetV3Block(nn.Module):
    def __init__(self, inputs, hidden, outputs, kernel, stride, use_se, act):
        super().__init__()
        self.skip = stride == 1 and inputs == outputs
        self.expand = ConvBNReLU(inputs, hidden, 1, act=act)
        self.depthwise = ConvBNReLU(
            hidden, hidden, kernel, stride, groups=hidden, act=act
        )
        self.se = SEModule(hidden) if use_se else nn.Identity()
        self.project = ConvBNReLU(hidden, outputs, 1, act=None)

    def forward(self, x):
        out = self.project(self.se(self.depthwise(self.expand(x))))
        if self.skip:
            out += x
        return out


class MobileNetV3(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.features = nn.Sequential(
            ConvBNReLU(3, 8, 3, 2, act=nn.Hardswish),
            MobileNetV3Block(8, 16, 8, 3, 1, True, nn.ReLU),
            MobileNetV3Block(8, 24, 12, 5, 2, True, nn.Hardswish),
            MobileNetV3Block(12, 36, 12, 5, 1, False, nn.Hardswish),
            ConvBNReLU(12, 36, 1, act=nn.Hardswish),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(36, 48),
            nn.Hardswish(inplace=True),
            nn.Dropout(p=0.2, inplace=True),
            nn.Linear(48, classes),
        )

    def forward(self, x):
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


def channel_shuffle(x, groups):
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(batch, channels, height, width)


class ShuffleUnit(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.stride = stride
        half = outputs // 2
        if stride > 1:
            self.branch1 = nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, half, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(inplace=True),
            )
        else:
            self.branch1 = nn.Sequential()
        self.branch2 = nn.Sequential(
            nn.Conv2d(inputs if stride > 1 else half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, stride, 1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


class ShuffleNetV2(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = ConvBNReLU(3, 8, 3, 2, act=nn.ReLU)
        self.stage2 = nn.Sequential(
            ShuffleUnit(8, 16, 2), ShuffleUnit(16, 16, 1), ShuffleUnit(16, 16, 1)
        )
        self.conv5 = ConvBNReLU(16, 32, 1, act=nn.ReLU)
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        x = self.conv1(x)
        x = self.stage2(x)
        x = self.conv5(x)
        x = x.mean([2, 3])  # globalpool
        return self.fc(x)


class MBConv(nn.Module):
    """EfficientNet's block, with squeeze and excitation by means and `swish`."""

    def __init__(self, inputs, outputs, kernel, stride, expand, se=True, act=nn.SiLU):
        super().__init__()
        hidden = inputs * expand
        self.expand = ConvBNReLU(inputs, hidden, 1, act=act)
        self.conv_dw = ConvBNReLU(
            hidden, hidden, kernel, stride, groups=hidden, act=act
        )
        self.has_se = se
        if se:
            self.conv_reduce = nn.Conv2d(hidden, max(1, inputs // 4), 1)
            self.conv_expand = nn.Conv2d(max(1, inputs // 4), hidden, 1)
        self.conv_pwl = ConvBNReLU(hidden, outputs, 1, act=None)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        shortcut = x
        x = self.conv_dw(self.expand(x))
        if self.has_se:
            x_se = x.mean((2, 3), keepdim=True)
            x_se = F.silu(self.conv_reduce(x_se))
            x = x * self.conv_expand(x_se).sigmoid()
        x = self.conv_pwl(x)
        if self.residual:
            x = x + shortcut
        return x


class EfficientNet(nn.Module):
    def __init__(self, lite=False, classes=10):
        super().__init__()
        act = nn.ReLU6 if lite else nn.SiLU
        self.conv_stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8, eps=1e-3, momentum=0.01)
        self.act1 = act(inplace=True)
        self.blocks = nn.Sequential(
            MBConv(8, 12, 3, 2, 4, se=not lite, act=act),
            MBConv(12, 12, 5, 1, 4, se=not lite, act=act),
        )
        self.conv_head = ConvBNReLU(12, 32, 1, act=act)
        self.classifier = nn.Linear(32, classes)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        x = self.act1(self.bn1(self.conv_stem(x)))
        x = self.conv_head(self.blocks(x))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.classifier(self.drop(x))


class GhostModule(nn.Module):
    def __init__(self, inputs, outputs, relu=True):
        super().__init__()
        self.outputs = outputs
        init = (outputs + 1) // 2
        self.primary_conv = nn.Sequential(
            nn.Conv2d(inputs, init, 1, bias=False),
            nn.BatchNorm2d(init),
            nn.ReLU(inplace=True) if relu else nn.Sequential(),
        )
        self.cheap_operation = nn.Sequential(
            nn.Conv2d(init, init, 3, 1, 1, groups=init, bias=False),
            nn.BatchNorm2d(init),
            nn.ReLU(inplace=True) if relu else nn.Sequential(),
        )

    def forward(self, x):
        x1 = self.primary_conv(x)
        x2 = self.cheap_operation(x1)
        out = torch.cat([x1, x2], dim=1)
        return out[:, : self.outputs, :, :]


def hard_sigmoid(x, inplace=False):
    if inplace:
        return x.add_(3.0).clamp_(0.0, 6.0).div_(6.0)
    return F.relu6(x + 3.0) / 6.0


class GhostBottleneck(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.ghost1 = GhostModule(inputs, hidden)
        self.conv_reduce = nn.Conv2d(hidden, 8, 1)
        self.conv_expand = nn.Conv2d(8, hidden, 1)
        self.ghost2 = GhostModule(hidden, outputs, relu=False)

    def forward(self, x):
        residual = x
        x = self.ghost1(x)
        se = F.adaptive_avg_pool2d(x, 1)
        se = self.conv_expand(F.relu(self.conv_reduce(se)))
        x = x * hard_sigmoid(se)
        x = self.ghost2(x)
        x += residual
        return x


class GhostNet(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.stem = ConvBNReLU(3, 10, 3, 2, act=nn.ReLU)
        self.blocks = nn.Sequential(
            GhostBottleneck(10, 25, 10), GhostBottleneck(10, 24, 10)
        )
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(10, classes)

    def forward(self, x):
        x = self.pool(self.blocks(self.stem(x)))
        x = x.view(x.size(0), -1)
        return self.fc(x)


@model("mobilenet_v2")
def mobilenet_v2():
    return MobileNetV2(), (torch.randn(4, 3, 24, 24),), "cross_softmax"


@model("mobilenet_v3")
def mobilenet_v3():
    return MobileNetV3(), (torch.randn(4, 3, 24, 24),), "cross_softmax"


@model("mnasnet")
def mnasnet():
    return MNASNet(), (torch.randn(4, 3, 16, 16),), "cross_softmax"


@model("shufflenet_v2")
def shufflenet_v2():
    return ShuffleNetV2(), (torch.randn(4, 3, 20, 20),), "cross_softmax"


@model("efficientnet")
def efficientnet():
    return EfficientNet(), (torch.randn(4, 3, 20, 20),), "cross_softmax"


@model("efficientnet_lite")
def efficientnet_lite():
    return EfficientNet(lite=True), (torch.randn(4, 3, 20, 20),), "cross_softmax"


@model("ghostnet")
def ghostnet():
    return GhostNet(), (torch.randn(4, 3, 20, 20),), "cross_softmax"
