"""Autoencoders and adversaries: VAE, DCGAN, diffusion."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model


class VAE(nn.Module):
    """The loss is computed inside; the noise is an input."""

    def __init__(self, inputs=36, hidden=24, code=4):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc21 = nn.Linear(hidden, code)
        self.fc22 = nn.Linear(hidden, code)
        self.fc3 = nn.Linear(code, hidden)
        self.fc4 = nn.Linear(hidden, inputs)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar, eps):
        std = torch.exp(0.5 * logvar)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x, eps):
        mu, logvar = self.encode(x)
        out = self.decode(self.reparameterize(mu, logvar, eps))
        reconstruction = (out - x).pow(2).sum(dim=1)
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1)
        return torch.mean(reconstruction + kld)


class SamplingVAE(VAE):
    """As in PyTorch's examples: the noise is drawn inside."""

    def reparameterize(self, mu, logvar, eps):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def forward(self, x):
        return super().forward(x, None)


class Discriminator(nn.Module):
    """DCGAN's, with its initial values."""

    def __init__(self, ndf=8):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(3, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 2, 1, 4, 1, 0, bias=False),
        )
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight.data, 0.0, 0.1)

    def forward(self, x):
        return self.main(x).view(-1, 1)


class Generator(nn.Module):
    def __init__(self, nz=8, ngf=8):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.main(z[:, :, None, None])


class MinibatchDiscriminator(nn.Module):
    """Progressive GAN's: the deviation over the batch is a feature."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8 * 16 + 1, 1)

    def forward(self, x):
        y = F.leaky_relu(self.conv(x), 0.2).flatten(1)
        deviation = y.std(dim=0).mean()
        return self.fc(torch.cat([y, deviation.expand(y.size(0), 1)], dim=1))


class Diffusion(nn.Module):
    """Predicts noise; the time comes as sines and moves every channel."""

    def __init__(self, channels=12, dim=16):
        super().__init__()
        self.dim = dim
        self.time = nn.Sequential(
            nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, 2 * channels)
        )
        self.conv_in = nn.Conv2d(1, channels, 3, padding=1)
        self.norm = nn.GroupNorm(4, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.out = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x, t):
        half = self.dim // 2
        freqs = torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
        args = t * freqs[None, :]
        emb = torch.cat([torch.cos(args), torch.sin(args)], dim=-1)
        scale, shift = self.time(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_in(x)
        y = self.norm(h) * (1 + scale) + shift
        return self.out(h + self.conv(F.silu(y)))


@model("vae")
def vae():
    return VAE(), (torch.rand(4, 36), torch.randn(4, 4)), "output"


@model("vae_sampling")
def vae_sampling():
    return SamplingVAE(), (torch.rand(4, 36),), "output"


@model("dcgan_discriminator")
def dcgan_discriminator():
    return Discriminator(), (torch.randn(4, 3, 16, 16),), "cross_sigmoid"


@model("dcgan_generator")
def dcgan_generator():
    return Generator(), (torch.randn(4, 8),), "mse"


@model("minibatch_discriminator")
def minibatch_discriminator():
    net = MinibatchDiscriminator()
    return net, (torch.randn(4, 3, 8, 8),), "cross_sigmoid"


@model("diffusion")
def diffusion():
    inputs = torch.randn(3, 1, 8, 8), torch.rand(3, 1) * 50
    return Diffusion(), inputs, "mse"
