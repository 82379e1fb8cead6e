"""From pictures to pictures: segmentation, super-resolution, denoising."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model

PIXELS = ("cross_softmax", {"per_token": True, "axis": 1})


class DoubleConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, inputs, outputs, bilinear):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            self.conv = DoubleConv(inputs + outputs, outputs)
        else:
            self.up = nn.ConvTranspose2d(inputs, outputs, kernel_size=2, stride=2)
            self.conv = DoubleConv(2 * outputs, outputs)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        diff_y = x2.size()[2] - x1.size()[2]
        diff_x = x2.size()[3] - x1.size()[3]
        x1 = F.pad(
            x1,
            [diff_x // 2, diff_x - diff_x // 2, diff_y // 2, diff_y - diff_y // 2],
        )
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    def __init__(self, bilinear, classes=3):
        super().__init__()
        self.inc = DoubleConv(3, 8)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(8, 12))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(12, 16))
        self.up1 = Up(16, 12, bilinear)
        self.up2 = Up(12, 8, bilinear)
        self.outc = nn.Conv2d(8, classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        return self.outc(x)


class FCN(nn.Module):
    """Scores of two depths, added up; nearest neighbours between them."""

    def __init__(self, classes=4):
        super().__init__()
        self.pool1 = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.pool2 = nn.Sequential(
            nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.score1 = nn.Conv2d(12, classes, 1)
        self.score2 = nn.Conv2d(16, classes, 1)
        self.up = nn.ConvTranspose2d(classes, classes, 4, 2, 1, bias=False)

    def forward(self, x):
        p1 = self.pool1(x)
        p2 = self.pool2(p1)
        s = F.interpolate(self.score2(p2), scale_factor=2, mode="nearest")
        s = s + self.score1(p1)
        return self.up(s)


class LRASPP(nn.Module):
    def __init__(self, classes=3, inter=16):
        super().__init__()
        self.backbone_low = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()
        )
        self.backbone_high = nn.Sequential(
            nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()
        )
        self.cbr = nn.Sequential(
            nn.Conv2d(16, inter, 1, bias=False),
            nn.BatchNorm2d(inter),
            nn.ReLU(inplace=True),
        )
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, inter, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(8, classes, 1)
        self.high_classifier = nn.Conv2d(inter, classes, 1)

    def forward(self, x):
        low = self.backbone_low(x)
        high = self.backbone_high(low)
        y = self.cbr(high)
        s = self.scale(high)
        y = y * s
        y = F.interpolate(y, size=low.shape[-2:], mode="bilinear", align_corners=False)
        out = self.low_classifier(low) + self.high_classifier(y)
        return F.interpolate(
            out, size=x.shape[-2:], mode="bilinear", align_corners=False
        )


class DilatedNet(nn.Module):
    """Atrous convolutions side by side, as in DeepLab."""

    def __init__(self, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.branches = nn.ModuleList(
            [nn.Conv2d(12, 8, 3, padding=d, dilation=d) for d in (1, 2, 3)]
        )
        self.project = nn.Conv2d(24, classes, 1)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x):
        x = F.relu_(self.stem(x))
        x = torch.cat([F.relu(branch(x)) for branch in self.branches], dim=1)
        return self.up(self.project(x))


class SRCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, kernel_size=9, padding=9 // 2)
        self.conv2 = nn.Conv2d(24, 12, kernel_size=5, padding=5 // 2)
        self.conv3 = nn.Conv2d(12, 1, kernel_size=5, padding=5 // 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x))
        return self.conv3(x)


class ESPCN(nn.Module):
    def __init__(self, upscale=3):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, (5, 5), (1, 1), (2, 2))
        self.conv2 = nn.Conv2d(16, 12, (3, 3), (1, 1), (1, 1))
        self.conv3 = nn.Conv2d(12, upscale**2, (3, 3), (1, 1), (1, 1))
        self.pixel_shuffle = nn.PixelShuffle(upscale)

    def forward(self, x):
        x = torch.tanh(self.conv1(x))
        x = torch.tanh(self.conv2(x))
        return torch.sigmoid(self.pixel_shuffle(self.conv3(x)))


class FSRCNN(nn.Module):
    """PReLU between convolutions, a transposed one at the end."""

    def __init__(self, d=16, s=8):
        super().__init__()
        self.first_part = nn.Sequential(
            nn.Conv2d(1, d, kernel_size=5, padding=2), nn.PReLU(d)
        )
        self.mid_part = nn.Sequential(
            nn.Conv2d(d, s, kernel_size=1),
            nn.PReLU(s),
            nn.Conv2d(s, s, kernel_size=3, padding=1),
            nn.PReLU(),
            nn.Conv2d(s, d, kernel_size=1),
            nn.PReLU(d),
        )
        self.last_part = nn.ConvTranspose2d(
            d, 1, kernel_size=9, stride=2, padding=4, output_padding=1
        )

    def forward(self, x):
        return self.last_part(self.mid_part(self.first_part(x)))


class DnCNN(nn.Module):
    """Predicts the noise and takes it off."""

    def __init__(self, features=12):
        super().__init__()
        layers = [nn.Conv2d(1, features, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(2):
            layers += [
                nn.Conv2d(features, features, 3, padding=1, bias=False),
                nn.BatchNorm2d(features, eps=0.0001, momentum=0.95),
                nn.ReLU(inplace=True),
            ]
        layers.append(nn.Conv2d(features, 1, 3, padding=1, bias=False))
        self.dncnn = nn.Sequential(*layers)

    def forward(self, x):
        noise = self.dncnn(x)
        return x - noise


class StyleNet(nn.Module):
    """Fast neural style: reflected borders, instance normalization, scaled tanh."""

    def __init__(self):
        super().__init__()
        self.pad = nn.ReflectionPad2d(2)
        self.conv1 = nn.Conv2d(3, 8, 5)
        self.in1 = nn.InstanceNorm2d(8, affine=True)
        self.conv2 = nn.Conv2d(8, 12, 3, 2, 1)
        self.in2 = nn.InstanceNorm2d(12, affine=True)
        self.conv3 = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x):
        y = F.relu(self.in1(self.conv1(self.pad(x))))
        y = F.relu(self.in2(self.conv2(y)))
        y = F.interpolate(y, scale_factor=2, mode="nearest")
        return (torch.tanh(self.conv3(y)) + 1) / 2 * 255.0


class ConvAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ELU(),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
            nn.ELU(),
            nn.Flatten(),
            nn.Linear(12 * 4 * 4, 16),
        )
        self.decoder = nn.Sequential(
            nn.Linear(16, 12 * 4 * 4),
            nn.ELU(),
            nn.Unflatten(1, (12, 4, 4)),
            nn.ConvTranspose2d(12, 8, 3, stride=2, padding=1, output_padding=1),
            nn.ELU(),
            nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1, output_padding=1),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


@model("unet")
def unet():
    return UNet(bilinear=False), (torch.randn(3, 3, 16, 16),), PIXELS


@model("unet_bilinear")
def unet_bilinear():
    return UNet(bilinear=True), (torch.randn(3, 3, 16, 16),), PIXELS


@model("fcn")
def fcn():
    return FCN(), (torch.randn(3, 3, 16, 16),), PIXELS


@model("lraspp")
def lraspp():
    return LRASPP(), (torch.randn(3, 3, 16, 16),), PIXELS


@model("dilated_net")
def dilated_net():
    return DilatedNet(), (torch.randn(3, 3, 16, 16),), PIXELS


@model("srcnn")
def srcnn():
    return SRCNN(), (torch.rand(3, 1, 12, 12),), "mse"


@model("espcn")
def espcn():
    return ESPCN(), (torch.rand(3, 1, 8, 8),), "mse"


@model("fsrcnn")
def fsrcnn():
    return FSRCNN(), (torch.rand(3, 1, 8, 8),), "mae"


@model("dncnn")
def dncnn():
    return DnCNN(), (torch.rand(3, 1, 12, 12),), "mse"


@model("style_net")
def style_net():
    return StyleNet(), (torch.rand(3, 3, 12, 12),), "mse"


@model("conv_autoencoder")
def conv_autoencoder():
    return ConvAutoencoder(), (torch.rand(3, 1, 16, 16),), "cross_sigmoid"
