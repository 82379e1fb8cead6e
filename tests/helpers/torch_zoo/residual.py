"""Networks of residual and dense blocks: ResNet and what followed it."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model


def conv3x3(inputs, outputs, stride=1, groups=1):
    return nn.Conv2d(
        inputs, outputs, 3, stride=stride, padding=1, groups=groups, bias=False
    )


def conv1x1(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs, planes, stride=1, downsample=None, groups=1, width=64):
        super().__init__()
        self.conv1 = conv3x3(inputs, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        identity = x
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, planes, stride=1, downsample=None, groups=1, width=64):
        super().__init__()
        inner = int(planes * (width / 64.0)) * groups
        self.conv1 = conv1x1(inputs, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride, groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, planes * self.expansion)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """torchvision's, with a stem for small pictures."""

    def __init__(self, block, layers, planes, groups=1, width=64, classes=10):
        super().__init__()
        self.inplanes, self.groups, self.width = planes[0], groups, width
        self.conv1 = nn.Conv2d(3, planes[0], 3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._make_layer(block, planes[0], layers[0])
        self.layer2 = self._make_layer(block, planes[1], layers[1], stride=2)
        self.layer3 = self._make_layer(block, planes[2], layers[2], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(planes[2] * block.expansion, classes)

    def _make_layer(self, block, planes, blocks, stride=1):
        downsample = None
        if stride != 1 or self.inplanes != planes * block.expansion:
            downsample = nn.Sequential(
                conv1x1(self.inplanes, planes * block.expansion, stride),
                nn.BatchNorm2d(planes * block.expansion),
            )
        more = {"groups": self.groups, "width": self.width}
        layers = [block(self.inplanes, planes, stride, downsample, **more)]
        self.inplanes = planes * block.expansion
        for _ in range(1, blocks):
            layers.append(block(self.inplanes, planes, **more))
        return nn.Sequential(*layers)

    def forward(self, x):
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.relu(x)
        x = self.maxpool(x)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.fc(x)


class PreActBlock(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes)
        if stride != 1 or inputs != planes:
            self.shortcut = nn.Sequential(conv1x1(inputs, planes, stride))

    def forward(self, x):
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv1(out)
        out = self.conv2(F.relu(self.bn2(out)))
        out += shortcut
        return out


class WideResNet(nn.Module):
    def __init__(self, classes=10, drop=0.1):
        super().__init__()
        self.conv = conv3x3(3, 8)
        self.blocks = nn.ModuleList(
            [PreActBlock(8, 16, 1), PreActBlock(16, 24, 2), PreActBlock(24, 24, 1)]
        )
        self.bn = nn.BatchNorm2d(24)
        self.drop = nn.Dropout(drop)
        self.linear = nn.Linear(24, classes)

    def forward(self, x):
        out = self.conv(x)
        for block in self.blocks:
            out = block(out)
        out = F.relu(self.bn(out))
        out = F.avg_pool2d(out, out.size(3))
        out = out.view(-1, 24)
        return self.linear(self.drop(out))


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth, bottleneck=2):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = conv1x1(inputs, bottleneck * growth)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(bottleneck * growth, growth)

    def forward(self, features):
        x = torch.cat(features, 1)
        x = self.conv1(self.relu1(self.norm1(x)))
        return self.conv2(self.relu2(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    def __init__(self, number, inputs, growth):
        super().__init__()
        for i in range(number):
            layer = DenseLayer(inputs + i * growth, growth)
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, init_features):
        features = [init_features]
        for _name, layer in self.items():
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self, growth=6, classes=10):
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, 12, 3, padding=1, bias=False))
        self.features.add_module("denseblock1", DenseBlock(3, 12, growth))
        transition = nn.Sequential(
            nn.BatchNorm2d(30),
            nn.ReLU(inplace=True),
            conv1x1(30, 15),
            nn.AvgPool2d(kernel_size=2, stride=2),
        )
        self.features.add_module("transition1", transition)
        self.features.add_module("denseblock2", DenseBlock(3, 15, growth))
        self.features.add_module("norm5", nn.BatchNorm2d(33))
        self.classifier = nn.Linear(33, classes)

    def forward(self, x):
        features = self.features(x)
        out = F.relu(features, inplace=True)
        out = F.adaptive_avg_pool2d(out, (1, 1))
        out = torch.flatten(out, 1)
        return self.classifier(out)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels, squeezed):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        scale = self.avgpool(x)
        scale = F.relu(self.fc1(scale))
        scale = torch.sigmoid(self.fc2(scale))
        return scale * x


class RegNetBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, group_width=8):
        super().__init__()
        self.proj = None
        if inputs != outputs or stride != 1:
            self.proj = nn.Sequential(
                conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs)
            )
        self.f = nn.Sequential(
            conv1x1(inputs, outputs),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            conv3x3(outputs, outputs, stride, groups=outputs // group_width),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            SqueezeExcitation(outputs, inputs // 4),
            conv1x1(outputs, outputs),
            nn.BatchNorm2d(outputs),
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.proj(x) + self.f(x) if self.proj is not None else x + self.f(x)
        return self.activation(x)


class RegNet(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(True)
        )
        self.trunk = nn.Sequential(
            RegNetBlock(16, 24, 2), RegNetBlock(24, 24, 1), RegNetBlock(24, 40, 2)
        )
        self.fc = nn.Linear(40, classes)

    def forward(self, x):
        x = self.trunk(self.stem(x))
        return self.fc(x.mean((2, 3)))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class CNBlock(nn.Module):
    def __init__(self, dim, layer_scale=1e-1):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(layer_scale * torch.ones(dim))

    def forward(self, x):
        shortcut = x
        x = self.dwconv(x)
        x = x.permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
        x = self.norm(x)
        x = self.pwconv1(x)
        x = self.act(x)
        x = self.pwconv2(x)
        x = self.gamma * x
        x = x.permute(0, 3, 1, 2)
        return shortcut + x


class ConvNeXt(nn.Module):
    def __init__(self, dims=(12, 24), classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, dims[0], kernel_size=4, stride=4),
            LayerNorm2d(dims[0], eps=1e-6),
        )
        self.stages = nn.Sequential(
            CNBlock(dims[0]),
            LayerNorm2d(dims[0], eps=1e-6),
            nn.Conv2d(dims[0], dims[1], kernel_size=2, stride=2),
            CNBlock(dims[1]),
        )
        self.norm = nn.LayerNorm(dims[1], eps=1e-6)
        self.head = nn.Linear(dims[1], classes)

    def forward(self, x):
        x = self.stages(self.stem(x))
        return self.head(self.norm(x.mean([-2, -1])))


class CNScaledBlock(nn.Module):
    """torchvision's variant of the block: a layer scale of the shape (C, 1, 1)."""

    def __init__(self, dim):
        super().__init__()
        self.layer_scale = nn.Parameter(torch.ones(dim, 1, 1) * 0.1)
        self.block = nn.Sequential(
            nn.GroupNorm(4, dim),
            nn.Conv2d(dim, 2 * dim, 1),
            nn.SiLU(inplace=True),
            nn.Conv2d(2 * dim, dim, 3, padding=1),
        )

    def forward(self, x):
        return x + self.layer_scale * self.block(x)


@model("resnet18")
def resnet18():
    net = ResNet(BasicBlock, [2, 2, 2], [8, 16, 24])
    return net, (torch.randn(4, 3, 24, 24),), "cross_softmax"


@model("resnet_bottleneck")
def resnet_bottleneck():
    net = ResNet(Bottleneck, [1, 1, 1], [8, 8, 12])
    return net, (torch.randn(4, 3, 24, 24),), "cross_softmax"


@model("resnext")
def resnext():
    net = ResNet(Bottleneck, [1, 1, 1], [8, 8, 16], groups=4, width=32)
    return net, (torch.randn(4, 3, 24, 24),), "cross_softmax"


@model("wide_resnet")
def wide_resnet():
    return WideResNet(), (torch.randn(4, 3, 12, 12),), "cross_softmax"


@model("densenet")
def densenet():
    return DenseNet(), (torch.randn(4, 3, 12, 12),), "cross_softmax"


@model("regnet")
def regnet():
    return RegNet(), (torch.randn(4, 3, 24, 24),), "cross_softmax"


@model("convnext")
def convnext():
    return ConvNeXt(), (torch.randn(3, 3, 24, 24),), "cross_softmax"


@model("groupnorm_resnet")
def groupnorm_resnet():
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        CNScaledBlock(16),
        CNScaledBlock(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    return net, (torch.randn(3, 3, 16, 16),), "cross_softmax"


@model("resnet18_frozen_backbone")
def resnet18_frozen_backbone():
    net = ResNet(BasicBlock, [1, 1, 1], [8, 16, 24])
    for name, weight in net.named_parameters():
        weight.requires_grad = name.startswith(("layer3", "fc"))
    return net, (torch.randn(4, 3, 16, 16),), "cross_softmax"


@model("resnet18_eval_norms")
def resnet18_eval_norms():
    """Fine-tuning by small batches: every norm keeps its statistics."""
    net = ResNet(BasicBlock, [1, 1, 1], [8, 16, 24])
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return net, (torch.randn(4, 3, 16, 16),), "cross_softmax"
