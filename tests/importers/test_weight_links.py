"""The way of foreign weights to ours, and back."""

from __future__ import annotations

import numpy as np

from arena_ckpt.definition.weight_links import WeightLink, to_foreign, used_twice
from arena_ckpt.importers.foreign_values import Table

PACKED = np.arange(24, dtype=np.float32).reshape(6, 4)


def link(weight: str, table: Table) -> WeightLink:
    return WeightLink(weight, table.name, table.whole_shape, table.steps)


def parts() -> dict[str, Table]:
    whole = Table.of("in_proj", PACKED, is_trained=True)
    return {
        "q:weight": whole.sliced(0, 0, 2).permuted((1, 0)),
        "k:weight": whole.sliced(0, 2, 4).permuted((1, 0)).reshaped((1, 4, 2)),
        "v:weight": whole.taken(0, [5, 4]),
    }


def test_there_and_back_is_where_it_began() -> None:
    ours = {name: table.array for name, table in parts().items()}
    links = [link(name, table) for name, table in parts().items()]
    for each in links:
        np.testing.assert_array_equal(each.to_ours(PACKED), ours[each.weight])
    empty = {"in_proj": np.zeros_like(PACKED)}
    back = to_foreign(links, ours, empty)
    np.testing.assert_array_equal(back["in_proj"], PACKED)
    assert not empty["in_proj"].any()


def test_what_no_link_names_stays() -> None:
    links = [link("q:weight", parts()["q:weight"])]
    back = to_foreign(links, {"q:weight": np.zeros((4, 2))}, {"in_proj": PACKED})
    np.testing.assert_array_equal(back["in_proj"][2:], PACKED[2:])
    assert not back["in_proj"][:2].any()


def test_an_element_in_two_weights_is_found() -> None:
    links = [link(name, table) for name, table in parts().items()]
    assert used_twice(links) == ()
    whole = Table.of("in_proj", PACKED, is_trained=True)
    assert used_twice([*links, link("row:weight", whole.sliced(0, 3, 4))]) == (
        "in_proj",
    )
