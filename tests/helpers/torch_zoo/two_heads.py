"""Networks with several outputs: a detector, policy and value, a dueling network."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from helpers.torch_zoo.registry import model


class Detector(nn.Module):
    """Classes and boxes of one object from one trunk."""

    def __init__(self, classes=4):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )
        self.classify = nn.Linear(16 * 16, classes)
        self.locate = nn.Linear(16 * 16, 4)

    def forward(self, x):
        x = self.backbone(x).flatten(1)
        return self.classify(x), self.locate(x).sigmoid()


class SSDHeads(nn.Module):
    """Scores and offsets of boxes at two sizes, in rows one after the other."""

    def __init__(self, classes=3, boxes=2):
        super().__init__()
        self.classes = classes
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.extra = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.loc = nn.ModuleList(
            [nn.Conv2d(c, boxes * 4, 3, padding=1) for c in (12, 16)]
        )
        self.conf = nn.ModuleList(
            [nn.Conv2d(c, boxes * classes, 3, padding=1) for c in (12, 16)]
        )

    def forward(self, x):
        first = F.relu(self.stem(x))
        second = F.relu(self.extra(first))
        loc, conf = [], []
        for y, loc_head, conf_head in zip(
            (first, second), self.loc, self.conf, strict=True
        ):
            loc.append(loc_head(y).permute(0, 2, 3, 1).contiguous())
            conf.append(conf_head(y).permute(0, 2, 3, 1).contiguous())
        loc = torch.cat([o.view(o.size(0), -1) for o in loc], 1)
        conf = torch.cat([o.view(o.size(0), -1) for o in conf], 1)
        return (
            conf.view(conf.size(0), -1, self.classes),
            loc.view(loc.size(0), -1, 4),
        )


class PolicyValue(nn.Module):
    """AlphaZero's network: moves and the value of a position."""

    def __init__(self, channels=12, moves=9):
        super().__init__()
        self.conv = nn.Conv2d(2, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.policy_conv = nn.Conv2d(channels, 2, 1)
        self.policy_fc = nn.Linear(2 * 9, moves)
        self.value_conv = nn.Conv2d(channels, 1, 1)
        self.value_fc1 = nn.Linear(9, 12)
        self.value_fc2 = nn.Linear(12, 1)

    def forward(self, board):
        x = F.relu(self.bn(self.conv(board)))
        p = F.relu(self.policy_conv(x)).view(-1, 18)
        v = F.relu(self.value_conv(x)).view(-1, 9)
        v = F.relu(self.value_fc1(v))
        return {"policy": self.policy_fc(p), "value": torch.tanh(self.value_fc2(v))}


class DuelingDQN(nn.Module):
    def __init__(self, states=6, actions=4, hidden=24):
        super().__init__()
        self.feature = nn.Sequential(nn.Linear(states, hidden), nn.ReLU())
        self.advantage = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, actions)
        )
        self.value = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, x):
        x = self.feature(x)
        advantage = self.advantage(x)
        value = self.value(x)
        return value + advantage - advantage.mean(dim=1, keepdim=True)


class Landmarks(nn.Module):
    """Soft-argmax: the expected place under a softmax over all pixels."""

    def __init__(self, points=3, size=8):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.heat = nn.Conv2d(8, points, 3, padding=1)
        axis = torch.linspace(-1, 1, size)
        ys, xs = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("xs", xs.reshape(-1))
        self.register_buffer("ys", ys.reshape(-1))

    def forward(self, x):
        h = self.heat(F.relu(self.conv(x))).flatten(2)
        p = h.softmax(dim=-1)
        px = torch.sum(p * self.xs, dim=-1)
        py = torch.sum(p * self.ys, dim=-1)
        return torch.stack([px, py], dim=-1)


@model("detector")
def detector():
    inputs = (torch.randn(4, 3, 16, 16),)
    return Detector(), inputs, ["cross_softmax", "mse"]


@model("ssd_heads")
def ssd_heads():
    losses = [("cross_softmax", {"per_token": True}), ("huber", {"delta": 1.0})]
    return SSDHeads(), (torch.randn(3, 3, 12, 12),), losses


@model("policy_value")
def policy_value():
    losses = ["cross_softmax", ("mse", {"weight": 0.5})]
    return PolicyValue(), (torch.randn(4, 2, 3, 3),), losses


@model("dueling_dqn")
def dueling_dqn():
    return DuelingDQN(), (torch.randn(5, 6),), ("huber", {"delta": 1.0})


@model("landmarks")
def landmarks():
    return Landmarks(), (torch.randn(3, 1, 8, 8),), "mse"
