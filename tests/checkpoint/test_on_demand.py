"""What is made again before which layer, and the ways to run an iteration, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.strategies import ModelSpec, chain

from arena_ckpt.checkpoint.choose import all_settings, unsplittable
from arena_ckpt.checkpoint.on_demand import Makers
from arena_ckpt.checkpoint.request import parse_overhead, parse_request
from arena_ckpt.checkpoint.stages import cut_graph
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.planning.recompute import Rerun
from arena_ckpt.planning.settings import PlanSettings

MLP = chain(4, "gelu", 4, "gelu", 4, width=4)


def demand(spec: ModelSpec = MLP, *names: str) -> Makers:
    """Return what is made again of some layers of a model, or of all but the loss."""
    nodes = [n for n in spec.model().compile().nodes if not n.layer.is_loss]
    return Makers([n for n in nodes if not names or n.name in names])


def again(before: str, *layers: str) -> list[Rerun]:
    return [Rerun(before, layer, (f"{layer}:out0",)) for layer in layers]


def test_all_is_made_before_the_first_layer_that_goes_backward_without_it() -> None:
    found = demand().for_backward(())
    assert found == again("fc3", "fc1", "act1", "fc2", "act2")


def test_what_is_there_is_not_made() -> None:
    whole = demand()
    assert whole.for_backward(whole.made()) == []
    found = whole.for_backward({"act2:out0"})
    assert found == again("act2", "fc1", "act1", "fc2")
    found = whole.for_backward({"act2:out0", "fc2:out0", "act1:out0"})
    assert found == again("act1", "fc1")
    found = whole.for_backward({"act1:out0"})
    assert found == [*again("fc3", "fc2", "act2"), *again("act1", "fc1")]


def test_what_other_layers_make_is_taken_to_be_there() -> None:
    found = demand(MLP, "fc2", "act2", "fc3").for_backward(())
    assert found == again("fc3", "fc2", "act2")


def test_samples_are_never_made() -> None:
    assert "in:out0" not in demand().made()
    assert demand().missing({"in:out0", "fc1:out0"}, ()) == {"fc1:out0"}


def test_what_a_layer_saves_is_made_with_its_output() -> None:
    """fc2 reads the output of the normalization, which reads its own statistics."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 4)}),
        ("fully_connected", {"name": "fc1", "unit": 4}),
        ("layer_normalization", {"name": "norm", "axis": 3}),
        ("fully_connected", {"name": "fc2", "unit": 4}),
        ("mse", {"name": "loss"}),
    )
    found = demand(ModelSpec(layers)).for_backward({"fc1:out0"})
    saved = ("norm:inv_std_dev", "norm:mean", "norm:out0")
    assert found == [Rerun("fc2", "norm", saved)]
    found = demand(ModelSpec(layers)).for_backward({"fc1:out0", "norm:out0"})
    assert found == [Rerun("norm", "norm", saved[:2])]


def test_a_chain_is_cut_at_what_backward_reads_anyway() -> None:
    """gelu and fully connected layers read their inputs: every cut holds one tensor."""
    stages = cut_graph(MLP.model().compile())
    assert [[node.name for node in stage.nodes] for stage in stages] == [
        *(["in", "fc1"], ["act1"], ["fc2"], ["act2"], ["fc3", "loss"])
    ]
    cuts = [("fc1:out0",), ("act1:out0",), ("fc2:out0",), ("act2:out0",)]
    assert [stage.cut_after for stage in stages] == [*cuts, ()]
    assert [stage.cut_before for stage in stages] == [(), *cuts]


def test_a_chain_is_not_cut_at_what_backward_does_not_read() -> None:
    """relu reads its output, and nobody the sums before it."""
    stages = cut_graph(chain(4, "relu", 4, width=4).model().compile())
    assert [[node.name for node in stage.nodes] for stage in stages] == [
        *(["in", "fc1", "act1"], ["fc2", "loss"])
    ]


def ways_of(allow: str, micro_batches: int = 1) -> list[tuple[int, str]]:
    settings = PlanSettings(batch_size=6, micro_batches=micro_batches)
    found = all_settings(settings, allow.split(), None)
    return [(s.micro_batches, " ".join(sorted(s.ways))) for s in found]


def test_the_ways_to_run_an_iteration() -> None:
    plain = "in_place layerwise_update"
    assert ways_of(plain) == [(1, plain)]
    assert ways_of("in_place") == [(1, "in_place")]
    assert ways_of(f"{plain} tiled_update") == [
        (1, plain),
        (1, f"{plain} tiled_update"),
    ]
    # without updates layer by layer no gradient is made in tiles
    assert ways_of("in_place tiled_update") == [(1, "in_place")]
    assert ways_of(f"{plain} micro_batch") == [(n, plain) for n in (1, 2, 3, 6)]
    assert ways_of(f"{plain} micro_batch", 2) == [(n, plain) for n in (2, 3, 6)]
    tiled = f"{plain} tiled_attention"
    assert ways_of(f"{tiled} micro_batch") == [
        *((1, plain), (1, tiled), (2, plain), (2, tiled)),
        *((3, plain), (3, tiled), (6, plain), (6, tiled)),
    ]
    # micro-batches keep gradients whole
    found = ways_of(f"{plain} tiled_update micro_batch")
    assert (1, f"{plain} tiled_update") in found
    assert (2, f"{plain} tiled_update") not in found


def test_a_layer_that_depends_on_the_batch_forbids_micro_batches() -> None:
    settings = PlanSettings(batch_size=6)
    assert len(all_settings(settings, ["micro_batch"], "bn")) == 1
    layers = (
        MLP.layers[0],
        MLP.layers[1],
        ("batch_normalization", {"name": "bn"}),
        *MLP.layers[2:],
    )
    assert unsplittable(replace(MLP, layers=layers).model().compile()) == "bn"
    assert unsplittable(MLP.model().compile()) is None


@pytest.mark.parametrize(
    ("given", "share"),
    [(0.2, 0.2), ("20%", 0.2), (" 7.5% ", 0.075), ("0.5", 0.5), (0, 0)],
)
def test_an_overhead_is_a_share_or_in_percent(given: str | float, share: float) -> None:
    assert parse_overhead(given) == pytest.approx(share)


def test_a_request_is_read() -> None:
    asked = parse_request(
        budget="2KiB", max_overhead="10%", allow="in_place, recompute"
    )
    assert asked.budget_bytes == 2048
    assert asked.max_overhead == pytest.approx(0.1)
    assert asked.allow == {"in_place", "recompute"}
    with pytest.raises(InvalidParameterError):
        parse_request(levels=2)
