"""The folding solver: parallelism of every stage for a rate, or the best rate for a device."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from karui.hw.arithmetic.popcount import LutInputs
from karui.hw.memory.resources import Resources
from karui.hw.plan.complexity_stage import complexity_lanes
from karui.hw.plan.components import engine
from karui.hw.plan.dataflow import Dataflow
from karui.hw.plan.estimate import Fold, cost, cycles, multipliers, weights_of
from karui.hw.plan.sparse_stage import is_sparse, sparse_pes, sparse_simds
from karui.hw.plan.stages import Stage
from karui.hw.streams.timing import divisors
from karui.sw.ir import (
    BinaryBases,
    Complexity,
    DepthwiseConv,
    Gather,
    GeneratedLayers,
    MatrixVector,
    Shared,
    SlidingWindow,
    WalshHadamard,
)

# Look-up tables that a block RAM or a multiplier is worth when foldings of one rate are compared: the proportion in
# which an ECP5-85F offers them (83,640 look-up tables, 208 block RAMs, 156 multipliers).
_LUTS_PER_BLOCK_RAM = 400
_LUTS_PER_DSP = 500
# What a multiplier has to save so that products are taken to multipliers that are left over. Narrower ones stay in
# look-up tables: two 4-bit weights by 4-bit activations in a multiplier save 45, one of 8 bits by 8 bits 90 and more.
_LUTS_SAVED_PER_DSP = 60

DSPS = 124
"""Multipliers that a folding for a rate takes at most where look-up tables do as well: four fifths of an ECP5-85F's."""


class FoldingError(ValueError):
    """No folding meets the request; the message says which does."""


@dataclass(frozen=True, kw_only=True)
class Folding:
    """Parallelism of every stage.

    Parameters
    ----------
    folds : mapping of str to Fold
        By stage name.
    """

    folds: Mapping[str, Fold]

    def built_for(self, lut_inputs: LutInputs) -> Folding:
        """The same, with population counts built for look-up tables of so many inputs."""
        return Folding(folds={name: replace(fold, lut_inputs=lut_inputs) for name, fold in self.folds.items()})

    def spread(self) -> Folding:
        """The same, with stages that may lie far from one another."""
        return Folding(folds={name: replace(fold, far=True) for name, fold in self.folds.items()})

    @property
    def far(self) -> frozenset[str]:
        """Stages that may lie far from those before them."""
        return frozenset(name for name, fold in self.folds.items() if fold.far)

    def save(self, path: Path) -> None:
        """Write the folding as JSON, one stage a key."""
        document = {
            name: {key: value for key, value in asdict(fold).items() if value != getattr(Fold, key, None)}
            for name, fold in self.folds.items()
        }
        path.write_text(json.dumps(document, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Folding:
        """Inverse of `save`."""
        try:
            document = json.loads(path.read_text())
            return cls(folds={name: Fold(**fold) for name, fold in document.items()})
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise FoldingError(f"{path} is no folding ({error}): write one {{'simd': n, 'pe': n}} a stage") from error


def choices(stage: Stage) -> list[Fold]:
    """Every legal folding of a stage."""
    if isinstance(stage.op, MatrixVector):
        groups = stage.op.groups
        simds = divisors(math.gcd(stage.granule, stage.source.shape[-1] // groups))
        pes = divisors(stage.graph.tensors[stage.name].shape[-1] // groups)
        storage = weights_of(stage).storage
        if is_sparse(stage):
            simds, pes = sparse_simds(simds), sparse_pes(stage)
        elif isinstance(storage, Shared):
            simds = [simd for simd in simds if simd % storage.vector == 0 or storage.vector % simd == 0]
        return [
            Fold(simd=simd, pe=pe, multiplier=multiplier)
            for simd in simds
            for pe in pes
            for multiplier in multipliers(stage)
        ]
    if isinstance(stage.op, BinaryBases):
        groups, (outputs, count, _) = stage.op.groups, weights_of(stage).values.shape
        folds = itertools.product(
            divisors(math.gcd(stage.granule, stage.source.shape[-1] // groups)),
            divisors(outputs // groups),
            divisors(stage.source.number_format.bits),
            divisors(count),
            multipliers(stage),
        )
        return [
            Fold(simd=simd, pe=pe, planes=planes, bases=bases, multiplier=multiplier)
            for simd, pe, planes, bases, multiplier in folds
        ]
    if isinstance(stage.op, DepthwiseConv):
        height, width = stage.op.kernel
        return [
            Fold(simd=simd, pe=pe, multiplier=multiplier)
            for simd in dict.fromkeys((height, height * width))
            for pe in divisors(stage.granule)
            for multiplier in multipliers(stage)
        ]
    if isinstance(stage.op, GeneratedLayers):
        return [Fold(simd=simd, pe=pe) for simd in divisors(stage.granule) for pe in divisors(stage.granule)]
    if isinstance(stage.op, WalshHadamard):
        size = stage.op.size
        lanes = [lanes for lanes in divisors(stage.granule) if size % lanes == 0 or lanes % size == 0]
        return [Fold(simd=one, pe=one) for one in lanes]
    if isinstance(stage.op, Gather):
        return [Fold(simd=lanes, pe=lanes) for lanes in divisors(math.gcd(stage.granule, stage.result.shape[-1]))]
    if isinstance(stage.op, Complexity):
        return [Fold(simd=lanes, pe=1) for lanes in complexity_lanes(stage)]
    groups = stage.op.groups if isinstance(stage.op, SlidingWindow) else 1
    return [
        Fold(simd=lanes, pe=lanes, multiplier=multiplier)
        for lanes in divisors(stage.granule // groups)
        for multiplier in multipliers(stage)
    ]


def check(pipeline: Sequence[Stage], folding: Folding) -> Folding:
    """Return the folding if it is legal for the pipeline.

    Raises
    ------
    FoldingError
        If a stage is missing, unknown, or its numbers do not divide.
    """
    names = [stage.name for stage in pipeline]
    for name in folding.folds:
        if name not in names:
            raise FoldingError(f"the folding names {name!r}, which is no stage; the stages are {', '.join(names)}")
    for stage in pipeline:
        fold = folding.folds.get(stage.name)
        legal = choices(stage)
        if fold is None:
            raise FoldingError(f"the folding lacks the stage {stage.name!r}")
        if replace(fold, lut_inputs=Fold.lut_inputs, far=Fold.far) not in legal:
            labels = {"simd": "SIMD may be", "pe": "PE"}
            if isinstance(stage.op, BinaryBases):
                labels |= {"planes": "planes", "bases": "bases"}
            may_be = ", ".join(
                f"{label} {', '.join(dict.fromkeys(str(getattr(one, key)) for one in legal))}"
                for key, label in labels.items()
            )
            raise FoldingError(f"stage {stage.name}: {fold} does not divide it; {may_be}")
    return folding


@dataclass(frozen=True, kw_only=True)
class _Option:
    fold: Fold
    cycles: int
    cost: Resources

    @property
    def weight(self) -> tuple[int, int]:
        """What the cells are worth together; of equal ones the fewest outputs in parallel."""
        return worth(self.cost), self.fold.pe


def worth(cost: Resources) -> int:
    """Look-up tables that cells of all kinds are worth together when designs of one rate are compared."""
    return cost.luts + _LUTS_PER_BLOCK_RAM * cost.block_rams + _LUTS_PER_DSP * cost.dsps


def fold_for_interval(pipeline: Sequence[Stage], interval: int, *, dsps: int = DSPS) -> Folding:
    """The least cost at which every stage takes at most `interval` cycles a frame.

    Products of integers that are not narrow are made in multipliers, those first that save the most look-up tables,
    until `dsps` multipliers are in use.

    Raises
    ------
    FoldingError
        If a stage needs more cycles even when fully parallel.
    """
    options = _options(pipeline)
    for name, folds in options.items():
        least = min(one.cycles for one in folds)
        if least > interval:
            raise FoldingError(
                f"stage {name} takes {least} cycles a frame at full parallelism, more than the initiation "
                f"interval of {interval} asked for; ask for {_least_interval(options)} or more"
            )
    cheapest = Folding(folds={name: folds[0].fold for name, folds in _fast(options, interval).items()})
    return _with_multipliers(options, cheapest, dsps)


def fold_for_budget(pipeline: Sequence[Stage], budget: Resources) -> Folding:
    """The highest rate whose estimated cost stays within a budget.

    At each rate every stage takes its cheapest folding at first. While a resource is short, the stage is folded anew
    that thereby brings the whole furthest towards the budget: products move from look-up tables to multipliers, say.
    Multipliers that are left over are used as for a rate.

    Raises
    ------
    FoldingError
        If not even the slowest rate fits, saying by how much.
    """
    options = _options(pipeline)
    least = _least_interval(options)
    intervals = sorted({one.cycles for folds in options.values() for one in folds if one.cycles >= least})
    found: Folding | None = None
    # A longer interval admits every folding of a shorter one: bisect.
    first, last = 0, len(intervals) - 1
    while first <= last:
        middle = (first + last) // 2
        folding = _within(pipeline, options, intervals[middle], budget)
        if folding is None:
            first = middle + 1
        else:
            found, last = folding, middle - 1
    if found is not None:
        improved = _with_multipliers(options, found, budget.dsps)
        return improved if total_cost(pipeline, improved).fits(budget) else found
    smallest = total_cost(pipeline, fold_for_interval(pipeline, intervals[-1]))
    raise FoldingError(
        f"the smallest folding takes an estimated {smallest.luts} LUTs, {smallest.block_rams} block RAMs and "
        f"{smallest.dsps} multipliers; the budget is {budget.luts}, {budget.block_rams} and {budget.dsps}: choose a "
        "larger device or a smaller network"
    )


def _options(pipeline: Sequence[Stage]) -> dict[str, list[_Option]]:
    return {
        stage.name: [
            _Option(fold=fold, cycles=cycles(stage.op, stage, fold), cost=cost(stage.op, stage, fold))
            for fold in choices(stage)
        ]
        for stage in pipeline
    }


def _fast(options: Mapping[str, list[_Option]], interval: int) -> dict[str, list[_Option]]:
    """Each stage's foldings of at most that many cycles, but for those that take more of everything than another."""
    fast: dict[str, list[_Option]] = {}
    for name, folds in options.items():
        kept: list[_Option] = []
        for one in sorted((one for one in folds if one.cycles <= interval), key=lambda one: one.weight):
            if not any(other.cost.fits(one.cost) for other in kept):
                kept.append(one)
        fast[name] = kept
    return fast


def _within(
    pipeline: Sequence[Stage], options: Mapping[str, list[_Option]], interval: int, budget: Resources
) -> Folding | None:
    """A folding of a rate within a budget, if folding stages anew one by one leads to one."""
    fast = _fast(options, interval)
    chosen = {name: folds[0] for name, folds in fast.items()}
    fifos = Resources()
    while True:
        needed = sum((one.cost for one in chosen.values()), start=fifos)
        if needed.fits(budget):
            # FIFOs take longer to count than engines: only where these fit, and from then on as they were counted.
            folding = Folding(folds={name: one.fold for name, one in chosen.items()})
            counted = total_cost(pipeline, folding) - (needed - fifos)
            if (needed - fifos + counted).fits(budget):
                return folding
            fifos, needed = counted, needed - fifos + counted
        excess, name, option = min(
            (
                (_excess(needed - chosen[name].cost + option.cost, budget), name, option)
                for name, folds in fast.items()
                for option in folds
            ),
            key=lambda move: (move[0], move[2].weight),
        )
        if excess >= _excess(needed, budget):
            return None
        chosen[name] = option


def _with_multipliers(options: Mapping[str, list[_Option]], folding: Folding, dsps: int) -> Folding:
    """The folding with products taken to multipliers while there are any, where each saves enough look-up tables."""
    by_fold = {name: {one.fold: one.cost for one in folds} for name, folds in options.items()}
    free = dsps - sum(by_fold[name][fold].dsps for name, fold in folding.folds.items())
    folds = dict(folding.folds)
    moves = []
    for name, fold in folds.items():
        moved = replace(fold, multiplier="dsp")
        if fold.multiplier == "lut" and moved in by_fold[name]:
            change = by_fold[name][moved] - by_fold[name][fold]
            moves.append((-change.luts / max(1, change.dsps), change.dsps, name, moved))
    for saved, taken, name, moved in sorted(moves, key=lambda move: -move[0]):
        if saved >= _LUTS_SAVED_PER_DSP and taken <= free:
            folds[name] = moved
            free -= taken
    return Folding(folds=folds)


def _excess(needed: Resources, budget: Resources) -> float:
    """By how much, in shares of the budget, the resources that are short are exceeded."""
    pairs = (
        (needed.luts, budget.luts),
        (needed.block_rams, budget.block_rams),
        (needed.dsps, budget.dsps),
    )
    return sum(max(0, need - limit) / max(1, limit) for need, limit in pairs)


def total_cost(pipeline: Sequence[Stage], folding: Folding) -> Resources:
    """Estimated cells of all stages, and of what stands where streams fork and join."""
    folded = tuple(engine(stage.op, stage, folding.folds[stage.name]) for stage in pipeline)
    flow = Dataflow(graph=pipeline[0].graph, stages=tuple(pipeline), engines=folded, far=folding.far)
    return engines_cost(pipeline, folding) + flow.cost


def engines_cost(pipeline: Sequence[Stage], folding: Folding) -> Resources:
    """Estimated cells of all stages."""
    return sum((cost(stage.op, stage, folding.folds[stage.name]) for stage in pipeline), start=Resources())


def _least_interval(options: Mapping[str, list[_Option]]) -> int:
    return max(min(one.cycles for one in folds) for folds in options.values())
