"""Whether weights that are stored in another form than raw are worth what decodes them or looks them up."""

from __future__ import annotations

from karui.hw.plan.estimate import cost, cycles, weights_of
from karui.hw.plan.folding import Folding, choices, worth
from karui.hw.plan.stages import Stage, stages
from karui.sw.ir import RAW, Graph, MatrixVector, with_storage


def with_storage_that_pays(graph: Graph, folding: Folding) -> Graph:
    """Keep weights raw after all where that is estimated to cost no more at the same rate.

    A stage's cheapest engine on its stored weights is compared with its cheapest one on raw weights, memories and
    multipliers counted in look-up tables as the folding solver does; both keep up with the slowest stage.

    Parameters
    ----------
    graph : Graph
        With the storages to be judged.
    folding : Folding
        Of that graph, at the rate that is asked for.
    """
    pipeline = stages(graph)
    interval = max(cycles(stage.op, stage, folding.folds[stage.name]) for stage in pipeline)
    stored = {
        stage.name: stage.node.inputs[1]
        for stage in pipeline
        if isinstance(stage.op, MatrixVector) and weights_of(stage).storage != RAW
    }
    raw = {stage.name: stage for stage in stages(with_storage(graph, dict.fromkeys(stored.values(), RAW)))}
    dear = []
    for stage in pipeline:
        if stage.name in stored:
            on_raw = least_worth(raw[stage.name], interval)
            if on_raw is not None and on_raw <= (least_worth(stage, interval) or 0):
                dear.append(stored[stage.name])
    return with_storage(graph, dict.fromkeys(dear, RAW))


def least_worth(stage: Stage, interval: int) -> int | None:
    """What the cheapest folding that takes no more cycles is worth in look-up tables; None if there is none."""
    fast = [fold for fold in choices(stage) if cycles(stage.op, stage, fold) <= interval]
    return min((worth(cost(stage.op, stage, fold)) for fold in fast), default=None)
