"""PyTorch modules as graphs: what is captured, and what is refused before any rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from arena_ckpt.errors import InvalidParameterError, UnsupportedModelError
from arena_ckpt.importers.foreign_axes import Size
from arena_ckpt.importers.foreign_graph import ForeignNode, Ref, TensorType
from arena_ckpt.importers.torch_graph import Captured, capture

torch = pytest.importorskip("torch", reason="PyTorch is absent")
nn = torch.nn

B = Size(1, True)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        x = self.act(self.norm(self.conv(x)))
        return self.fc(x.view(x.size(0), -1))


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def nodes_of(captured: Captured) -> dict[str, ForeignNode]:
    return {node.op: node for node in captured.graph.nodes}


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_a_module_becomes_nodes_with_names_lines_and_whole_operations(
    samples: int,
) -> None:
    captured = capture(Small(), torch.zeros(samples, 1, 4, 4))
    graph = captured.graph
    ops = [node.op for node in graph.nodes]
    assert ops == ["conv2d", "batch_norm", "relu", "view", "linear"]  # not relu_
    found = nodes_of(captured)
    assert [found[op].module for op in ops] == ["conv", "norm", "act", "", "fc"]
    assert found["conv2d"].module_type == "Conv2d"
    assert found["conv2d"].result == TensorType((B, *map(Size, (4, 2, 2))), "float32")
    assert found["view"].args["size"] == (B, -1)
    assert found["batch_norm"].args["eps"] == 1e-5
    assert re.search(r"test_torch_graph.py:\d+$", found["linear"].where)
    assert [one.type.shape[0] for one in graph.inputs] == [B]
    assert graph.outputs == (Ref(graph.nodes[-1].name),)
    assert captured.gaps == ()


def test_tables_have_the_names_of_the_state_and_say_what_is_trained() -> None:
    module = Small()
    module.fc.weight.requires_grad_(False)
    tables = capture(module, torch.zeros(2, 1, 4, 4)).graph.tables.values()
    trained = {table.name: table.is_trained for table in tables if table.is_state}
    assert set(trained) == set(module.state_dict())
    assert [name for name, is_trained in trained.items() if is_trained] == [
        *("conv.weight", "norm.weight", "norm.bias", "fc.bias")
    ]


def test_each_part_keeps_the_mode_it_was_set_to() -> None:
    module = Small()
    module.norm.eval()
    captured = capture(module, torch.zeros(2, 1, 4, 4))
    assert nodes_of(captured)["batch_norm"].args["training"] is False


def test_tied_weights_are_one_table_of_two_names() -> None:
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    module[1].weight = module[0].weight
    tables = capture(module, torch.zeros(2, 4)).graph.tables.values()
    assert {table.aliases for table in tables} == {("0.weight", "1.weight")}
    assert {table.name for table in tables} == {"0.weight"}


def test_inputs_by_name_and_several_of_them() -> None:
    module = Applied(lambda own, a, b: a + b)
    captured = capture(module, (torch.zeros(1, 3), torch.zeros(1, 3)))
    assert len(captured.graph.inputs) == 2
    assert captured.graph.nodes[0].result == TensorType((B, Size(3)), "float32")

    class Named(nn.Module):
        def forward(self, ids: Any, scale: Any) -> Any:
            return {"sum": ids + scale, "ids": ids}

    example = {"scale": torch.zeros(2, 3), "ids": torch.zeros(2, 3, dtype=torch.int64)}
    captured = capture(Named(), example)
    dtypes = {one.name: one.type.dtype for one in captured.graph.inputs}
    assert dtypes == {"ids": "int64", "scale": "float32"}
    assert captured.graph.output_names == ("output sum", "output ids")


def test_the_graph_of_a_with_statement_is_part_of_the_whole() -> None:
    def forward(own: Any, x: Any) -> Any:
        with torch.no_grad():
            angles = torch.arange(3) * 2.0
            double = x * 2
        return x + angles + double

    captured = capture(Applied(forward), torch.zeros(2, 3))
    ops = [node.op for node in captured.graph.nodes]
    assert ops == ["arange", "mul", "mul", "detach", "detach", "add", "add"]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda own, x: x.mul_(2) + 1, "changes the input 'x'"),
        (lambda own, x: x[:, :1].zero_() + x, "changes the input 'x'"),
        (lambda own, x: x + own.count.add_(1.0), "changes 'count', which belongs"),
        (lambda own, x: _overwritten(x), "read again later by another name"),
    ],
)
def test_writes_that_others_would_see_are_gaps(
    function: Callable[..., Any], reason: str
) -> None:
    module = Applied(function)
    module.register_buffer("count", torch.zeros(()))
    (gap,) = capture(module, torch.zeros(2, 3)).gaps
    assert reason.replace("'x'", "'inputs_0'") in gap.reason
    assert re.search(r"test_torch_graph.py:\d+$", gap.where)


def _overwritten(x: Any) -> Any:
    y = x + 1
    y[:, 0] = 0.0
    return y * 2


def test_writes_that_nobody_else_sees_are_no_gaps() -> None:
    def forward(own: Any, x: Any) -> Any:
        y = x * 2
        y += x
        return y.view(-1, 3).relu_()

    captured = capture(Applied(forward), torch.zeros(2, 3))
    assert captured.gaps == ()
    assert [node.op for node in captured.graph.nodes] == ["mul", "add", "view", "relu"]


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (nn.Linear, torch.zeros(1, 2), "give one that is built"),
        (Small().eval(), torch.zeros(1, 1, 4, 4), r"call \.train\(\)"),
        (Small().double(), torch.zeros(1, 1, 4, 4), r"float64.*call \.float\(\)"),
        (Small(), torch.zeros(1, 1, 4, 4).double(), "input 0 is float64"),
        (Small(), torch.zeros(()), "its first axis has to count"),
        (Small(), torch.zeros(0, 1, 4, 4), "its first axis has to count"),
        (Small(), [torch.zeros(2, 3), torch.zeros(3, 3)], "input 1 has 3"),
        (Small(), {"x": 3}, "has no tensor"),
        (Small(), 7, "give a tensor, a tuple"),
        (Small(), {"z": torch.zeros(2, 1, 4, 4)}, "do not fit the Small: .*'x'"),
    ],
)
def test_what_cannot_be_captured_is_said_before(
    module: Any, example: Any, message: str
) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        capture(module, example)


def test_a_batch_that_the_code_makes_constant_is_refused_with_its_number() -> None:
    module = Applied(lambda own, x: x.reshape(3, 4))
    with pytest.raises(UnsupportedModelError, match="batches of 3 only"):
        capture(module, torch.zeros(3, 4))


def test_what_export_cannot_follow_is_said_with_its_line() -> None:
    def forward(own: Any, x: Any) -> Any:
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(UnsupportedModelError, match=r"test_torch_graph.py:\d+") as info:
        capture(Applied(forward), torch.zeros(3, 4))
    assert "cannot follow the Applied" in str(info.value)
