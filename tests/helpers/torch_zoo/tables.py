"""Networks for tables and small signals: MLPs, gates, SIREN, Kolmogorov-Arnold."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model


class TabularModel(nn.Module):
    """Columns of categories and of numbers, as fastai's tabular model has them."""

    def __init__(self, categories=((7, 4), (5, 3)), numbers=5, outputs=2):
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(n, d) for n, d in categories)
        self.emb_drop = nn.Dropout(0.1)
        self.bn_cont = nn.BatchNorm1d(numbers)
        width = sum(d for _, d in categories) + numbers
        self.layers = nn.Sequential(
            nn.Linear(width, 24, bias=False),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(24),
            nn.Dropout(0.2),
            nn.Linear(24, outputs),
        )

    def forward(self, x_cat, x_cont):
        x = [e(x_cat[:, i]) for i, e in enumerate(self.embeds)]
        x = torch.cat(x, 1)
        x = self.emb_drop(x)
        x_cont = self.bn_cont(x_cont)
        x = torch.cat([x, x_cont], 1)
        return self.layers(x)


class Highway(nn.Module):
    def __init__(self, size=16, layers=2):
        super().__init__()
        self.input = nn.Linear(8, size)
        self.nonlinear = nn.ModuleList([nn.Linear(size, size) for _ in range(layers)])
        self.gate = nn.ModuleList([nn.Linear(size, size) for _ in range(layers)])
        self.out = nn.Linear(size, 3)

    def forward(self, x):
        x = self.input(x)
        for nonlinear, gating in zip(self.nonlinear, self.gate, strict=True):
            gate = torch.sigmoid(gating(x))
            x = gate * F.relu(nonlinear(x)) + (1 - gate) * x
        return self.out(x)


class SelfNormalizing(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(10, 24),
            nn.SELU(),
            nn.Linear(24, 24),
            nn.Mish(),
            nn.Linear(24, 16),
            nn.Softplus(),
            nn.Linear(16, 16),
            nn.LeakyReLU(),
            nn.Linear(16, 3),
        )

    def forward(self, x):
        return self.net(x)


class SineLayer(nn.Module):
    def __init__(self, inputs, outputs, omega_0=30.0):
        super().__init__()
        self.omega_0 = omega_0
        self.linear = nn.Linear(inputs, outputs)
        bound = (6 / inputs) ** 0.5 / omega_0
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(self.omega_0 * self.linear(x))


class KANLayer(nn.Module):
    """Radial basis functions on a fixed grid instead of splines (FastKAN)."""

    def __init__(self, inputs, outputs, grid=5):
        super().__init__()
        self.register_buffer("grid", torch.linspace(-2.0, 2.0, grid))
        self.denominator = 4.0 / (grid - 1)
        self.norm = nn.LayerNorm(inputs)
        self.spline_linear = nn.Linear(inputs * grid, outputs, bias=False)
        self.base_linear = nn.Linear(inputs, outputs)

    def forward(self, x):
        y = self.norm(x)
        basis = torch.exp(-(((y[..., None] - self.grid) / self.denominator) ** 2))
        ret = self.spline_linear(basis.view(*basis.shape[:-2], -1))
        return ret + self.base_linear(F.silu(x))


class Maxout(nn.Module):
    def __init__(self, inputs=8, hidden=12, pieces=3, classes=3):
        super().__init__()
        self.hidden, self.pieces = hidden, pieces
        self.linear = nn.Linear(inputs, hidden * pieces)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x):
        x = self.linear(x).view(-1, self.hidden, self.pieces)
        x, _ = x.max(dim=2)
        return self.out(x)


class Mixture(nn.Module):
    """A softmax over experts weighs what each of them says."""

    def __init__(self, inputs=8, outputs=4, experts=3):
        super().__init__()
        self.gate = nn.Linear(inputs, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, outputs))
            for _ in range(experts)
        )

    def forward(self, x):
        weights = F.softmax(self.gate(x), dim=-1)
        outs = torch.stack([expert(x) for expert in self.experts], dim=1)
        return torch.sum(weights.unsqueeze(-1) * outs, dim=1)


class TopOneMixture(Mixture):
    """Only the best expert counts: which one depends on the data."""

    def forward(self, x):
        values, indices = self.gate(x).softmax(-1).topk(1, dim=-1)
        outs = torch.stack([expert(x) for expert in self.experts], dim=1)
        places = indices.unsqueeze(-1).expand(-1, 1, outs.size(-1))
        return values * outs.gather(1, places).squeeze(1)


class CrossNetwork(nn.Module):
    """Deep and cross: x0 · (x w) + b + x, with a vector for each layer."""

    def __init__(self, dim=8, layers=2):
        super().__init__()
        self.w = nn.ModuleList([nn.Linear(dim, 1, bias=False) for _ in range(layers)])
        self.b = nn.ParameterList(
            [nn.Parameter(torch.zeros((dim,))) for _ in range(layers)]
        )
        self.out = nn.Linear(dim, 1)

    def forward(self, x):
        x0 = x
        for w, b in zip(self.w, self.b, strict=True):
            xw = w(x)
            x = x0 * xw + b + x
        return self.out(x)


class LowRank(nn.Module):
    """A frozen linear layer and a trained product of two small ones (LoRA)."""

    def __init__(self, inputs=12, outputs=8, rank=2, alpha=4):
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.base.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(rank, inputs) * 0.3)
        self.lora_b = nn.Parameter(torch.zeros(outputs, rank))
        self.scaling = alpha / rank
        self.head = nn.Linear(outputs, 3)

    def forward(self, x):
        low = x @ self.lora_a.T @ self.lora_b.T
        return self.head(torch.tanh(self.base(x) + low * self.scaling))


@model("tabular")
def tabular():
    categories = torch.stack(
        [torch.randint(0, 7, (6,)), torch.randint(0, 5, (6,))], dim=1
    )
    return TabularModel(), (categories, torch.randn(6, 5)), "cross_softmax"


@model("mlp")
def mlp():
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    return net, (torch.randn(6, 10),), ("huber", {"delta": 0.5})


@model("highway")
def highway():
    return Highway(), (torch.randn(5, 8),), "cross_softmax"


@model("self_normalizing")
def self_normalizing():
    return SelfNormalizing(), (torch.randn(5, 10),), "cross_softmax"


@model("siren")
def siren():
    net = nn.Sequential(SineLayer(2, 24), SineLayer(24, 24), nn.Linear(24, 1))
    return net, (torch.rand(6, 2) * 2 - 1,), "mse"


@model("kan")
def kan():
    net = nn.Sequential(KANLayer(6, 8), KANLayer(8, 3))
    return net, (torch.randn(5, 6),), "mse"


@model("maxout")
def maxout():
    return Maxout(), (torch.randn(5, 8),), "cross_softmax"


@model("mixture_of_experts")
def mixture_of_experts():
    return Mixture(), (torch.randn(5, 8),), "cross_softmax"


@model("mixture_top_one")
def mixture_top_one():
    return TopOneMixture(), (torch.randn(5, 8),), "cross_softmax"


@model("cross_network")
def cross_network():
    return CrossNetwork(), (torch.randn(5, 8),), "cross_sigmoid"


@model("lora")
def lora():
    return LowRank(), (torch.randn(5, 12),), "cross_softmax"


@model("standardized")
def standardized():
    """What comes in is standardized by a norm without weights."""
    net = nn.Sequential(
        nn.BatchNorm1d(8, affine=False), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3)
    )
    return net, (torch.randn(6, 8),), "cross_softmax"
