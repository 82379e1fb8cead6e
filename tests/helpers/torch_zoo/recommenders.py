"""Recommenders: factorization, NeuMF, DLRM, wide and deep, two towers."""

from __future__ import annotations

import itertools

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model


class MatrixFactorization(nn.Module):
    def __init__(self, users=20, items=30, factors=8):
        super().__init__()
        self.user_factors = nn.Embedding(users, factors)
        self.item_factors = nn.Embedding(items, factors)
        self.user_biases = nn.Embedding(users, 1)
        self.item_biases = nn.Embedding(items, 1)

    def forward(self, user, item):
        pred = self.user_biases(user) + self.item_biases(item)
        product = self.user_factors(user) * self.item_factors(item)
        pred += product.sum(dim=1, keepdim=True)
        return pred.squeeze(-1)


class NeuMF(nn.Module):
    def __init__(self, users=20, items=30, mf=8, layers=(32, 16, 8)):
        super().__init__()
        self.mf_user_embed = nn.Embedding(users, mf)
        self.mf_item_embed = nn.Embedding(items, mf)
        self.mlp_user_embed = nn.Embedding(users, layers[0] // 2)
        self.mlp_item_embed = nn.Embedding(items, layers[0] // 2)
        self.mlp = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(layers))
        self.final = nn.Linear(mf + layers[-1], 1)

    def forward(self, user, item):
        xmf = self.mf_user_embed(user) * self.mf_item_embed(item)
        xmlp = torch.cat((self.mlp_user_embed(user), self.mlp_item_embed(item)), dim=1)
        for layer in self.mlp:
            xmlp = F.relu(layer(xmlp))
        x = torch.cat((xmf, xmlp), dim=1)
        return self.final(x)


class DLRM(nn.Module):
    """Embeddings of several tables; the products of all pairs of them."""

    def __init__(self, dense=6, tables=(10, 12, 14), dim=8):
        super().__init__()
        self.emb_l = nn.ModuleList(nn.Embedding(n, dim) for n in tables)
        self.bot_l = nn.Sequential(
            nn.Linear(dense, 16), nn.ReLU(), nn.Linear(16, dim), nn.ReLU()
        )
        number = len(tables) + 1
        rows, columns = torch.tril_indices(number, number, offset=-1)
        self.register_buffer("places", rows * number + columns)
        self.top_l = nn.Sequential(
            nn.Linear(dim + len(rows), 16), nn.ReLU(), nn.Linear(16, 1)
        )

    def forward(self, dense_x, ids):
        x = self.bot_l(dense_x)
        ly = [emb(ids[:, i]) for i, emb in enumerate(self.emb_l)]
        (batch_size, d) = x.shape
        T = torch.cat([x, *ly], dim=1).view((batch_size, -1, d))
        Z = torch.bmm(T, torch.transpose(T, 1, 2))
        Zflat = Z.flatten(1).index_select(1, self.places)
        return self.top_l(torch.cat([x, Zflat], dim=1))


class FactorizationMachine(nn.Module):
    """Half of the square of the sum minus the sum of the squares."""

    def __init__(self, features=40, dim=6):
        super().__init__()
        self.embedding = nn.Embedding(features, dim)
        self.fc = nn.Embedding(features, 1)
        self.bias = nn.Parameter(torch.zeros((1,)))

    def forward(self, x):
        linear = torch.sum(self.fc(x), dim=1) + self.bias
        e = self.embedding(x)
        square_of_sum = torch.sum(e, dim=1) ** 2
        sum_of_square = torch.sum(e**2, dim=1)
        ix = torch.sum(square_of_sum - sum_of_square, dim=1, keepdim=True)
        return linear + 0.5 * ix


class WideAndDeep(nn.Module):
    def __init__(self, vocabulary=30, fields=4, dim=6):
        super().__init__()
        self.wide = nn.Embedding(vocabulary, 1)
        self.deep = nn.Embedding(vocabulary, dim)
        self.mlp = nn.Sequential(
            nn.Linear(fields * dim, 24),
            nn.BatchNorm1d(24),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(24, 1),
        )

    def forward(self, x):
        embed = self.deep(x)
        deep = self.mlp(embed.view(embed.size(0), -1))
        return self.wide(x).sum(1) + deep


class TwoTowers(nn.Module):
    """Siamese: the same network twice, and the cosine of what it says."""

    def __init__(self, inputs=12, dim=10):
        super().__init__()
        self.tower = nn.Sequential(
            nn.Linear(inputs, 24), nn.ReLU(), nn.Linear(24, dim), nn.Tanh()
        )

    def forward(self, a, b):
        return F.cosine_similarity(self.tower(a), self.tower(b), dim=1)


class SiameseConv(nn.Module):
    """Distances of features of two pictures, as for one-shot learning."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3)
        )
        self.liner = nn.Sequential(nn.Linear(12 * 9, 16), nn.Sigmoid())
        self.out = nn.Linear(16, 1)

    def forward_one(self, x):
        x = self.conv(x)
        x = x.view(x.size()[0], -1)
        return self.liner(x)

    def forward(self, x1, x2):
        dis = torch.abs(self.forward_one(x1) - self.forward_one(x2))
        return self.out(dis)


class Contrastive(nn.Module):
    """CLIP's and SimCLR's loss: every sample is compared with all others."""

    def __init__(self, inputs=12, dim=8):
        super().__init__()
        self.encoder = nn.Linear(inputs, dim)

    def forward(self, a, b):
        a = F.normalize(self.encoder(a), dim=-1)
        b = F.normalize(self.encoder(b), dim=-1)
        return (a @ b.t()) / 0.5


def ids(batch, rows):
    drawn = torch.randint(0, rows, (batch,))
    drawn[0], drawn[-1] = 0, rows - 1
    return drawn


@model("matrix_factorization")
def matrix_factorization():
    return MatrixFactorization(), (ids(5, 20), ids(5, 30)), "mse"


@model("neumf")
def neumf():
    return NeuMF(), (ids(5, 20), ids(5, 30)), "cross_sigmoid"


@model("dlrm")
def dlrm():
    rows = torch.stack([ids(5, 10), ids(5, 12), ids(5, 14)], dim=1)
    return DLRM(), (torch.randn(5, 6), rows), "cross_sigmoid"


@model("factorization_machine")
def factorization_machine():
    fields = torch.stack([10 * i + ids(5, 10) for i in range(4)], dim=1)
    return FactorizationMachine(), (fields,), "cross_sigmoid"


@model("wide_and_deep")
def wide_and_deep():
    fields = torch.stack([7 * i + ids(5, 7) for i in range(4)], dim=1)
    return WideAndDeep(), (fields,), "cross_sigmoid"


@model("siamese_cosine")
def siamese_cosine():
    return TwoTowers(), (torch.randn(4, 12), torch.randn(4, 12)), "mse"


@model("siamese_conv")
def siamese_conv():
    inputs = torch.randn(4, 1, 12, 12), torch.randn(4, 1, 12, 12)
    return SiameseConv(), inputs, "cross_sigmoid"


@model("contrastive")
def contrastive():
    inputs = torch.randn(4, 12), torch.randn(4, 12)
    return Contrastive(), inputs, "cross_softmax"
