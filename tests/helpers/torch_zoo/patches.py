"""Networks over patches, as timm has them: ViT, DeiT, mixers, PoolFormer."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model


class PatchEmbed(nn.Module):
    def __init__(self, patch, channels, dim):
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)
        self.norm = nn.Identity()

    def forward(self, x):
        x = self.proj(x)
        x = x.flatten(2).transpose(1, 2)  # NCHW -> NLC
        return self.norm(x)


class Mlp(nn.Module):
    def __init__(self, dim, hidden, out=None, act=nn.GELU, drop=0.0):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = act()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden, out or dim)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x):
        x = self.fc1(x)
        x = self.act(x)
        x = self.drop1(x)
        x = self.fc2(x)
        return self.drop2(x)


class Attention(nn.Module):
    """timm's, with one packed linear layer; fused or written out."""

    def __init__(self, dim, num_heads, fused=True):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.scale = self.head_dim**-0.5
        self.fused_attn = fused
        self.qkv = nn.Linear(dim, dim * 3, bias=True)
        self.attn_drop = nn.Dropout(0.0)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim)
        qkv = qkv.permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused_attn:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            q = q * self.scale
            attn = q @ k.transpose(-2, -1)
            attn = attn.softmax(dim=-1)
            attn = self.attn_drop(attn)
            x = attn @ v
        x = x.transpose(1, 2).reshape(B, N, C)
        return self.proj(x)


class Block(nn.Module):
    def __init__(self, dim, num_heads, fused=True):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, fused)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 2 * dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, dim=24, depth=2, heads=3, patch=4, size=16, classes=10):
        super().__init__()
        self.patch_embed = PatchEmbed(patch, 3, dim)
        tokens = (size // patch) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, tokens + 1, dim) * 0.02)
        self.pos_drop = nn.Dropout(p=0.1)
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch_embed(x)
        cls_token = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat((cls_token, x), dim=1)
        x = self.pos_drop(x + self.pos_embed)
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0])


class DistilledViT(nn.Module):
    """DeiT: a class token and a distillation token, whose heads are averaged."""

    def __init__(self, dim=24, heads=2, patch=4, size=16, classes=10):
        super().__init__()
        self.patch_embed = PatchEmbed(patch, 3, dim)
        tokens = (size // patch) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, tokens + 2, dim) * 0.02)
        self.blocks = nn.ModuleList([Block(dim, heads, fused=False) for _ in range(2)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)
        self.head_dist = nn.Linear(dim, classes)

    def forward(self, x):
        B = x.shape[0]
        x = self.patch_embed(x)
        x = torch.cat(
            [self.cls_token.expand(B, -1, -1), self.dist_token.expand(B, -1, -1), x], 1
        )
        x = x + self.pos_embed
        for blk in self.blocks:
            x = blk(x)
        x = self.norm(x)
        return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2


class MixerBlock(nn.Module):
    def __init__(self, dim, tokens):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp_tokens = Mlp(tokens, 24)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp_channels = Mlp(dim, 48)

    def forward(self, x):
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class MlpMixer(nn.Module):
    def __init__(self, dim=24, patch=4, size=16, classes=10):
        super().__init__()
        self.stem = PatchEmbed(patch, 3, dim)
        tokens = (size // patch) ** 2
        self.blocks = nn.Sequential(*[MixerBlock(dim, tokens) for _ in range(2)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.norm(self.blocks(self.stem(x)))
        return self.head(x.mean(dim=1))


class Affine(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones((1, 1, dim)))
        self.beta = nn.Parameter(torch.zeros((1, 1, dim)))

    def forward(self, x):
        return torch.addcmul(self.beta, self.alpha, x)


class ResMLP(nn.Module):
    """Affine maps instead of norms, a layer scale on each residual."""

    def __init__(self, dim=24, patch=4, size=16, classes=10):
        super().__init__()
        self.stem = PatchEmbed(patch, 3, dim)
        self.affine1 = Affine(dim)
        self.linear_tokens = nn.Linear((size // patch) ** 2, (size // patch) ** 2)
        self.ls1 = nn.Parameter(0.1 * torch.ones(dim))
        self.affine2 = Affine(dim)
        self.mlp_channels = Mlp(dim, 48)
        self.ls2 = nn.Parameter(0.1 * torch.ones(dim))
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.stem(x)
        mixed = self.linear_tokens(self.affine1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.ls1 * mixed
        x = x + self.ls2 * self.mlp_channels(self.affine2(x))
        return self.head(x.mean(1))


class Pooling(nn.Module):
    def __init__(self, pool_size=3):
        super().__init__()
        self.pool = nn.AvgPool2d(
            pool_size, stride=1, padding=pool_size // 2, count_include_pad=False
        )

    def forward(self, x):
        return self.pool(x) - x


class PoolFormerBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm1 = nn.GroupNorm(1, dim)
        self.token_mixer = Pooling()
        self.norm2 = nn.GroupNorm(1, dim)
        self.fc1 = nn.Conv2d(dim, 2 * dim, 1)
        self.fc2 = nn.Conv2d(2 * dim, dim, 1)
        self.layer_scale_1 = nn.Parameter(0.1 * torch.ones(dim))
        self.layer_scale_2 = nn.Parameter(0.1 * torch.ones(dim))

    def forward(self, x):
        scale = self.layer_scale_1.unsqueeze(-1).unsqueeze(-1)
        x = x + scale * self.token_mixer(self.norm1(x))
        y = self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return x + self.layer_scale_2.unsqueeze(-1).unsqueeze(-1) * y


class PoolFormer(nn.Module):
    def __init__(self, dims=(16, 24), classes=10):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dims[0], 7, stride=4, padding=2)
        self.network = nn.Sequential(
            PoolFormerBlock(dims[0]),
            nn.Conv2d(dims[0], dims[1], 3, stride=2, padding=1),
            PoolFormerBlock(dims[1]),
        )
        self.norm = nn.GroupNorm(1, dims[1])
        self.head = nn.Linear(dims[1], classes)

    def forward(self, x):
        x = self.norm(self.network(self.patch_embed(x)))
        return self.head(x.mean([-2, -1]))


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


def conv_mixer_of(dim, depth, kernel=5, patch=4, classes=10):
    return nn.Sequential(
        nn.Conv2d(3, dim, kernel_size=patch, stride=patch),
        nn.GELU(),
        nn.BatchNorm2d(dim),
        *[
            nn.Sequential(
                Residual(
                    nn.Sequential(
                        nn.Conv2d(dim, dim, kernel, groups=dim, padding="same"),
                        nn.GELU(),
                        nn.BatchNorm2d(dim),
                    )
                ),
                nn.Conv2d(dim, dim, kernel_size=1),
                nn.GELU(),
                nn.BatchNorm2d(dim),
            )
            for _ in range(depth)
        ],
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(dim, classes),
    )


class MobileViTBlock(nn.Module):
    """Unfolds into patches, attends over each place of a patch, folds back."""

    def __init__(self, channels, dim, heads=2, patch=2):
        super().__init__()
        self.patch = patch
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, dim, 1, bias=False)
        self.transformer = Block(dim, heads)
        self.norm = nn.LayerNorm(dim)
        self.conv3 = nn.Conv2d(dim, channels, 1)
        self.fusion = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x):
        y = x
        x = self.conv2(F.silu(self.bn1(self.conv1(x))))
        B, C, H, W = x.shape
        p = self.patch
        h, w = H // p, W // p
        x = x.reshape(B * C * h, p, w, p).transpose(1, 2)
        x = x.reshape(B, C, h * w, p * p).transpose(1, 3)
        x = x.reshape(B * p * p, h * w, C)
        x = self.norm(self.transformer(x))
        x = x.view(B, p * p, h * w, C).transpose(1, 3)
        x = x.reshape(B * C * h, w, p, p).transpose(1, 2)
        x = x.reshape(B, C, h * p, w * p)
        x = self.conv3(x)
        return self.fusion(torch.cat((y, x), dim=1))


class MobileViT(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.SiLU()
        )
        self.block = MobileViTBlock(12, 16)
        self.fc = nn.Linear(12, classes)

    def forward(self, x):
        x = self.block(self.stem(x))
        return self.fc(x.mean(dim=(-2, -1)))


@model("vit")
def vit():
    return VisionTransformer(), (torch.randn(3, 3, 16, 16),), "cross_softmax"


@model("deit_distilled")
def deit_distilled():
    return DistilledViT(), (torch.randn(3, 3, 16, 16),), "cross_softmax"


@model("mlp_mixer")
def mlp_mixer():
    return MlpMixer(), (torch.randn(3, 3, 16, 16),), "cross_softmax"


@model("resmlp")
def resmlp():
    return ResMLP(), (torch.randn(3, 3, 16, 16),), "cross_softmax"


@model("poolformer")
def poolformer():
    return PoolFormer(), (torch.randn(3, 3, 24, 24),), "cross_softmax"


@model("conv_mixer")
def conv_mixer():
    return conv_mixer_of(16, 2), (torch.randn(4, 3, 20, 20),), "cross_softmax"


@model("mobilevit")
def mobilevit():
    return MobileViT(), (torch.randn(4, 3, 16, 16),), "cross_softmax"
