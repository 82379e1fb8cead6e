"""Networks over sets and graphs: DeepSets, PointNet, a graph convolution."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model


class DeepSets(nn.Module):
    def __init__(self, features=4, hidden=16):
        super().__init__()
        self.phi = nn.Sequential(
            nn.Linear(features, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU()
        )
        self.rho = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ELU(), nn.Linear(hidden, 1)
        )

    def forward(self, x):
        return self.rho(self.phi(x).sum(dim=1))


class PointNet(nn.Module):
    """Points as columns, convolutions of width 1, the maximum over points."""

    def __init__(self, classes=5):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 12, 1)
        self.conv2 = nn.Conv1d(12, 24, 1)
        self.bn1 = nn.BatchNorm1d(12)
        self.bn2 = nn.BatchNorm1d(24)
        self.fc = nn.Linear(24, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 24)
        return self.fc(x)


class GCN(nn.Module):
    """One graph for all samples, whose normalized adjacency is a buffer."""

    def __init__(self, nodes=7, features=5, hidden=12, classes=3):
        super().__init__()
        edges = (torch.rand(nodes, nodes) < 0.4).float()
        edges = ((edges + edges.T) > 0).float()
        edges.fill_diagonal_(1.0)
        degree = edges.sum(1).rsqrt()
        self.register_buffer("adjacency", degree[:, None] * edges * degree[None, :])
        self.lin1 = nn.Linear(features, hidden, bias=False)
        self.bias1 = nn.Parameter(torch.zeros(hidden))
        self.dropout = nn.Dropout(0.3)
        self.lin2 = nn.Linear(hidden, classes)

    def forward(self, x):
        x = torch.matmul(self.adjacency, self.lin1(x)) + self.bias1
        x = self.dropout(F.relu(x))
        return torch.matmul(self.adjacency, self.lin2(x))


class GraphOfSamples(nn.Module):
    """Each sample brings its own adjacency."""

    def __init__(self, features=4, hidden=10):
        super().__init__()
        self.lin1 = nn.Linear(features, hidden)
        self.lin2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x, adjacency):
        x = torch.relu(adjacency @ self.lin1(x))
        x = torch.relu(adjacency @ self.lin2(x))
        return self.out(x.mean(dim=1))


@model("deep_sets")
def deep_sets():
    return DeepSets(), (torch.randn(4, 6, 4),), "mse"


@model("pointnet")
def pointnet():
    return PointNet(), (torch.randn(4, 3, 10),), "cross_softmax"


@model("gcn")
def gcn():
    loss = ("cross_softmax", {"per_token": True})
    return GCN(), (torch.randn(4, 7, 5),), loss


@model("graph_of_samples")
def graph_of_samples():
    inputs = torch.randn(4, 6, 4), torch.rand(4, 6, 6)
    return GraphOfSamples(), inputs, "mse"
