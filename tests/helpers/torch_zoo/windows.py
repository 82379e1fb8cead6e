"""Attention over windows and pictures: Swin, CBAM, non-local, gMLP, BoTNet."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.patches import Mlp, PatchEmbed
from helpers.torch_zoo.recurrent import tokens
from helpers.torch_zoo.registry import model


def window_partition(x, window_size):
    B, H, W, C = x.shape
    x = x.view(B, H // window_size, window_size, W // window_size, window_size, C)
    windows = x.permute(0, 1, 3, 2, 4, 5).contiguous()
    return windows.view(-1, window_size, window_size, C)


def window_reverse(windows, window_size, H, W):
    C = windows.shape[-1]
    nh, nw = H // window_size, W // window_size
    x = windows.view(-1, nh, nw, window_size, window_size, C)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, H, W, C)


class WindowAttention(nn.Module):
    """With a learned bias for each offset between two places of a window."""

    def __init__(self, dim, window_size, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(
            torch.randn((2 * window_size - 1) ** 2, num_heads) * 0.02
        )
        axis = torch.arange(window_size)
        coords = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1)
        relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0)
        relative = relative + window_size - 1
        index = relative[:, :, 0] * (2 * window_size - 1) + relative[:, :, 1]
        self.register_buffer("relative_position_index", index)
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x):
        B_, N, C = x.shape
        qkv = self.qkv(x).reshape(B_, N, 3, self.num_heads, C // self.num_heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        q = q * self.scale
        attn = q @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        bias = bias.view(N, N, -1).permute(2, 0, 1).contiguous()
        attn = attn + bias.unsqueeze(0)
        attn = self.softmax(attn)
        x = (attn @ v).transpose(1, 2).reshape(B_, N, C)
        return self.proj(x)


class SwinBlock(nn.Module):
    def __init__(self, dim, heads, size, window, shift):
        super().__init__()
        self.size, self.window, self.shift = size, window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 2 * dim)

    def forward(self, x):
        B, _L, C = x.shape
        shortcut = x
        x = self.norm1(x).view(B, self.size, self.size, C)
        if self.shift > 0:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        windows = window_partition(x, self.window)
        windows = windows.view(-1, self.window * self.window, C)
        windows = self.attn(windows)
        windows = windows.view(-1, self.window, self.window, C)
        x = window_reverse(windows, self.window, self.size, self.size)
        if self.shift > 0:
            x = torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2))
        x = shortcut + x.view(B, self.size * self.size, C)
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    def __init__(self, size, dim):
        super().__init__()
        self.size = size
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x):
        B, _L, C = x.shape
        x = x.view(B, self.size, self.size, C)
        x0 = x[:, 0::2, 0::2, :]
        x1 = x[:, 1::2, 0::2, :]
        x2 = x[:, 0::2, 1::2, :]
        x3 = x[:, 1::2, 1::2, :]
        x = torch.cat([x0, x1, x2, x3], -1)
        x = x.view(B, -1, 4 * C)
        return self.reduction(self.norm(x))


class Swin(nn.Module):
    def __init__(self, dim=12, classes=10):
        super().__init__()
        self.patch_embed = PatchEmbed(4, 3, dim)
        self.blocks = nn.Sequential(
            SwinBlock(dim, 2, 4, 2, 0),
            SwinBlock(dim, 2, 4, 2, 1),
            PatchMerging(4, dim),
        )
        self.norm = nn.LayerNorm(2 * dim)
        self.avgpool = nn.AdaptiveAvgPool1d(1)
        self.head = nn.Linear(2 * dim, classes)

    def forward(self, x):
        x = self.norm(self.blocks(self.patch_embed(x)))
        x = self.avgpool(x.transpose(1, 2))
        return self.head(torch.flatten(x, 1))


class CBAM(nn.Module):
    """Attention over channels, then over places, by means and maxima."""

    def __init__(self, channels=16, ratio=4, classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.fc = nn.Sequential(
            nn.Conv2d(channels, channels // ratio, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // ratio, channels, 1, bias=False),
        )
        self.avg_pool, self.max_pool = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        x = F.gelu(self.stem(x))
        out = self.fc(self.avg_pool(x)) + self.fc(self.max_pool(x))
        x = torch.sigmoid(out) * x
        avg_out = torch.mean(x, dim=1, keepdim=True)
        max_out, _ = torch.max(x, dim=1, keepdim=True)
        y = torch.cat([avg_out, max_out], dim=1)
        x = torch.sigmoid(self.conv1(y)) * x
        return self.head(x.amax(dim=(2, 3)))


class NonLocal(nn.Module):
    """Every place looks at every other one."""

    def __init__(self, channels=12, inner=6, classes=4):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        self.W = nn.Conv2d(inner, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        b, c, h, w = x.size()
        theta = self.theta(x).view(b, -1, h * w).permute(0, 2, 1)
        phi = self.phi(x).view(b, -1, h * w)
        g = self.g(x).view(b, -1, h * w).permute(0, 2, 1)
        f = torch.bmm(theta, phi)
        y = torch.bmm(F.softmax(f, dim=-1), g).permute(0, 2, 1).contiguous()
        y = self.W(y.view(b, -1, h, w))
        z = self.gamma * y + x
        return self.head(z.view(b, c, -1).mean(-1))


class SpatialGatingUnit(nn.Module):
    def __init__(self, d_ffn, seq_len):
        super().__init__()
        self.norm = nn.LayerNorm(d_ffn)
        self.spatial_proj = nn.Conv1d(seq_len, seq_len, kernel_size=1)
        nn.init.constant_(self.spatial_proj.bias, 1.0)

    def forward(self, x):
        u, v = x.chunk(2, dim=-1)
        v = self.norm(v)
        v = self.spatial_proj(v)
        return u * v


class GMLP(nn.Module):
    def __init__(self, vocabulary=30, dim=12, d_ffn=16, steps=8, classes=3):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, dim)
        self.norm = nn.LayerNorm(dim)
        self.channel_proj1 = nn.Linear(dim, d_ffn * 2)
        self.channel_proj2 = nn.Linear(d_ffn, dim)
        self.sgu = SpatialGatingUnit(d_ffn, steps)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.embed(x)
        residual = x
        x = F.gelu(self.channel_proj1(self.norm(x)))
        x = self.channel_proj2(self.sgu(x))
        out = x + residual
        return self.head(out.mean(dim=1))


class EinsumAttention(nn.Module):
    """Heads by einsum, as code without views writes them."""

    def __init__(self, features=6, dim=12, heads=3, classes=4):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(features, dim * 3, bias=False)
        self.to_out = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = (t.reshape(b, n, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        dots = torch.einsum("bhid,bhjd->bhij", q, k) * q.shape[-1] ** -0.5
        out = torch.einsum("bhij,bhjd->bhid", dots.softmax(dim=-1), v)
        out = out.transpose(1, 2).reshape(b, n, -1)
        return self.head(self.to_out(out).max(dim=1).values)


class MaskedBert(nn.Module):
    """What is padded is told by a mask of ones and zeros among the inputs."""

    def __init__(self, vocabulary=30, dim=12, heads=2, classes=3):
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(vocabulary, dim)
        self.q, self.k = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v, self.o = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, input_ids, attention_mask):
        mask = (1.0 - attention_mask[:, None, None, :]) * -10000.0
        x = self.embed(input_ids)
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        scores = torch.matmul(q, k.transpose(-1, -2)) / (q.size(-1) ** 0.5) + mask
        y = torch.matmul(F.softmax(scores, dim=-1), v)
        y = y.permute(0, 2, 1, 3).contiguous().flatten(2)
        x = self.norm(x + self.o(y))
        weight = attention_mask.unsqueeze(-1)
        pooled = (x * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return self.head(pooled)


@model("swin")
def swin():
    return Swin(), (torch.randn(3, 3, 16, 16),), "cross_softmax"


@model("cbam")
def cbam():
    return CBAM(), (torch.randn(3, 3, 12, 12),), "cross_softmax"


@model("non_local")
def non_local():
    return NonLocal(), (torch.randn(3, 1, 10, 10),), "cross_softmax"


@model("gmlp")
def gmlp():
    return GMLP(), (tokens(3, 8, 30),), "cross_softmax"


@model("einsum_attention")
def einsum_attention():
    return EinsumAttention(), (torch.randn(3, 7, 6),), "cross_softmax"


@model("masked_bert")
def masked_bert():
    mask = torch.ones(3, 8)
    mask[0, 5:], mask[1, 7:] = 0.0, 0.0
    return MaskedBert(), (tokens(3, 8, 30), mask), "cross_softmax"
