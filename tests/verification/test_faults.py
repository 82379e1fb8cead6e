"""Faults put into plans on purpose: the checks of `verify` find every one.

The faults stand in `helpers/plan_faults.py`. The checks run in the order of `verify`,
and the first that fails has to be the one that the fault names, to give the broken rule
and to name the tensor. The test fails where a fault leaves the plan as it was.
`test_faulty_programs` does the same with code.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.fault_checks import checks_of, first_defect, names_a_tensor
from helpers.plan_faults import PLANS, lived
from helpers.plan_surgery import NETS, counted, plan_of


@pytest.mark.parametrize("net", NETS)
def test_the_networks_without_a_fault_pass(net: str) -> None:
    assert list(first_defect(checks_of(net))) == []


@pytest.mark.parametrize("name", PLANS)
def test_a_fault_in_a_plan_is_found(name: str) -> None:
    fault = PLANS[name]
    plan = plan_of(fault.net)
    faulty = counted(fault.change(plan))
    assert faulty != plan, "the fault changes nothing: take another"

    found = list(first_defect(checks_of(fault.net, faulty)))

    assert found, "no check has found the fault"
    assert found[0].name == fault.check, found[0].finding
    assert fault.rule in found[0].finding, found[0].finding
    missing = [part for part in fault.named if part not in found[0].finding]
    assert not missing, (missing, found[0].finding)
    assert names_a_tensor(found[0].finding, plan), found[0].finding


def test_a_bound_that_the_buffers_do_not_have_is_found() -> None:
    plan = plan_of("mlp")
    wrong = replace(plan, live_lower_bound_bytes=plan.live_lower_bound_bytes - 64)
    (found,) = first_defect(checks_of("mlp", wrong))
    assert found.name == "bounds"
    assert f"{plan.live_lower_bound_bytes:,} bytes live at once" in found.finding


def test_a_plan_that_is_not_made_again_is_found() -> None:
    """Bytes that live longer than they need are a waste, and no other check objects."""
    wasteful = counted(lived("act3:out0:grad", earlier=-1, both=True)(plan_of("mlp")))
    assert list(first_defect(checks_of("mlp", wasteful))) == []
    again = checks_of("mlp", wasteful, replan=lambda: plan_of("mlp"))
    (found,) = first_defect(again)
    assert found.name == "bounds"
    assert "another plan: act3:out0:grad" in found.finding
