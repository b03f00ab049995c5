"""Groups of processing elements, each a cycle behind the one before, so that no register drives more than one."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Value
from amaranth.lib import wiring

from karui.hw.streams.stream import ElasticOutput, delayed


def staggered_latency(latencies: Sequence[int]) -> int:
    """Cycles from the first group's operands to the results of all, by the groups' own latencies.

    They may differ: what a multiplication takes depends on the multipliers of a group's channels.
    """
    return len(latencies) - 1 + max(latencies)


def connect_groups(
    m: Module,
    groups: Sequence[wiring.Component],
    *,
    latencies: Sequence[int],
    valid: Value,
    activations: Value,
    weights: Sequence[Value],
    output: ElasticOutput,
) -> None:
    """Add groups to an engine and bring their results together again.

    Parameters
    ----------
    m : Module
        The engine's.
    groups : sequence of Component
        With members ``i``, a `Tagged` of `activations` and `weights`, and ``o``, a `Tagged` of results.
    latencies : sequence of int
        Of each group, from its operands to its results.
    valid, activations : Value
        What the first group gets; each further one gets it a cycle later.
    weights : sequence of Value
        A word for each group, a cycle later for each already.
    output : ElasticOutput
        Takes the results side by side.
    """
    whole = staggered_latency(latencies)
    for index, group in enumerate(groups):
        m.submodules[f"group_{index}"] = group
        if index:
            valid = delayed(m, valid, 1, name=f"group_{index}_valid", control=True)
            activations = delayed(m, activations, 1, name=f"group_{index}_activations")
        m.d.comb += [
            group.i.valid.eq(valid),
            group.i.payload.activations.as_value().eq(activations),
            group.i.payload.weights.as_value().eq(weights[index]),
        ]
        wait = whole - latencies[index] - index
        results = delayed(m, Value.cast(group.o.payload), wait, name=f"group_{index}_results")
        width = len(results)
        m.d.comb += output.i.payload.as_value()[index * width : (index + 1) * width].eq(results)
    m.d.comb += output.i.valid.eq(delayed(m, groups[-1].o.valid, wait, name="results_valid", control=True))
