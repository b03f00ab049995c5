"""The Walsh-Hadamard pipeline alone: its adders and delays, what it costs, and the clock that it reaches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import hadamard

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.flows.bench.mapped_cells import look_up_tables
from karui.flows.design import Design
from karui.flows.synthesize import SynthesisResult, TimingMissed, find_device, synthesize
from karui.flows.synthesize.block_ram_register import absorb_output_registers
from karui.flows.synthesize.yosys import map_netlist, write_netlist
from karui.hw.emit.manifest import Manifest
from karui.hw.emit.verilog import emit
from karui.hw.emit.yosys import run_yosys
from karui.hw.engines.walsh_hadamard import GROUP_LANES, WalshHadamard, WalshHadamardConfig
from karui.hw.plan.estimate import Fold
from karui.hw.plan.folding import Folding
from karui.sim.frames_on_demand import RegisteredStage
from karui.sim.netlist import NETLIST_NAME, ecp5_models, write_netlist_design
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.golden import evaluate
from karui.sw.ir import GraphBuilder
from karui.sw.ir import WalshHadamard as Transform
from karui.sw.numerics import signed

DEVICE = find_device("ecp5-85f-8")
SIZE = 1024
STAGES = SIZE.bit_length() - 1
WORD = signed(16)
ADDERS, WORDS, LUT4, CARRY, CLOCK_MHZ = 2 * STAGES, SIZE - 1, 600, 320, 250.0
# Four times the samples on wires four times as many: a slower clock, but many more samples a second.
WIDE_LANES, WIDE_CLOCK_MHZ, WIDE_SPEEDUP = 4, 175.0, 2.5
SEEDS = 2
SEED = 1
FRAMES = 12
NETLIST_FRAMES = 4
NAME = "transform"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A pipeline.

    Parameters
    ----------
    name : str
        Of the variant.
    lanes : int
        Samples a cycle.
    shifts : tuple of int or None
        Bits that each stage drops, rounded; None for exact growth.
    clock_mhz, aim_mhz : float
        Clock to reach, and the one asked for: nextpnr works towards that.
    """

    name: str
    lanes: int
    shifts: tuple[int, ...] | None = None
    clock_mhz: float = CLOCK_MHZ
    aim_mhz: float = 265.0

    @property
    def config(self) -> WalshHadamardConfig:
        """The engine's parameters."""
        transform = Transform(size=SIZE, shifts=self.shifts)
        return WalshHadamardConfig(transform=transform, element=WORD, elements=SIZE, lanes=self.lanes)


VARIANTS = (
    Variant(name="exact", lanes=1),
    Variant(name="halved at each stage", lanes=1, shifts=(1,) * STAGES),
    Variant(name=f"exact, {WIDE_LANES} a cycle", lanes=WIDE_LANES, clock_mhz=WIDE_CLOCK_MHZ, aim_mhz=215.0),
)


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Generate, play, count, place and route each variant, and play its netlist."""
    checks: list[Check] = []
    details: dict[str, Any] = {}
    for variant in VARIANTS:
        name, lanes = variant.name, variant.lanes
        folder = run.folder / name.replace(",", "").replace(" ", "-")
        folder.mkdir()
        design = _design(variant, folder)
        frames, expected = _frames(design, exact=variant.shifts is None)
        run.progress(f"{name}: simulating {FRAMES} transforms of {SIZE} words")
        checks += _play(design, variant, frames, expected)
        adders, words, queue = _structure(design)
        run.progress(f"{name}: {adders} adders, {words:,} words of delay; placing and routing on {DEVICE.name}")
        result = _place(variant, folder, run)
        run.progress(f"{name}: simulating the netlist")
        failure = _play_netlist(design, folder, frames[:NETLIST_FRAMES], expected[:NETLIST_FRAMES])
        checks.append(equal(f"{name}: failed checks of the netlist, random pauses", failure or "none", "none"))
        cells, reached = result.by_module["stage"], round(result.fmax_mhz or 0.0, 1)
        # A butterfly has two adders a lane, a stage within the beat one.
        within = lanes.bit_length() - 1
        checks += [
            equal(f"{name}: adders", adders, lanes * (ADDERS - within)),
            equal(f"{name}: words of delay", words, SIZE - lanes),
        ]
        if lanes == 1:
            checks += [
                at_most(f"{name}: LUT4", cells.lut, LUT4),
                at_most(f"{name}: carry cells", cells.carry, CARRY),
            ]
        checks.append(at_least(f"{name}: clock, best of {SEEDS} seeds, MHz", reached, variant.clock_mhz))
        details[name] = {
            "samples_a_cycle": lanes,
            "bits_in": WORD.bits,
            "bits_out": variant.config.output_format.bits,
            "adders": adders,
            "words_of_delay": words,
            "words_of_the_output_queue": queue,
            "latency_from_the_last_beat": variant.config.latency + 2,
            "lut4": cells.lut,
            "carry": cells.carry,
            "lutram": cells.lutram,
            "all_look_up_tables": look_up_tables(cells),
            "ff": cells.ff,
            "bram": cells.bram,
            "mhz_by_seed": {
                str(seed.seed): None if seed.fmax_mhz is None else round(seed.fmax_mhz, 1) for seed in result.seeds
            },
            "million_samples_a_second": round(reached * lanes),
            "critical_path": str(result.critical_path).split("\n"),
        }
    narrow, wide = (details[variant.name]["million_samples_a_second"] for variant in (VARIANTS[0], VARIANTS[-1]))
    speedup = f"samples a second, {VARIANTS[-1].name}, over {VARIANTS[0].name}"
    checks.append(at_least(speedup, round(wide / narrow, 2), WIDE_SPEEDUP))
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _design(variant: Variant, folder: Path) -> Design:
    build = GraphBuilder(NAME)
    edge = build.input("x", (SIZE,), WORD)
    graph = build.finish(build.walsh_hadamard(NAME, edge, SIZE, variant.shifts))
    fold = Fold(simd=variant.lanes, pe=variant.lanes)
    return Design.create(graph, folder / "design", Folding(folds={NAME: fold}))


def _frames(design: Design, *, exact: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Frames, the first of which reach the ends of the results' range, and their transforms."""
    random = np.random.default_rng(SEED)
    matrix = hadamard(SIZE, dtype=np.int64)
    frames = random.integers(WORD.minimum, WORD.maximum + 1, (FRAMES, SIZE))
    frames[0] = WORD.minimum
    frames[1] = np.where(matrix[random.integers(SIZE)] > 0, WORD.maximum, WORD.minimum)
    return frames, frames @ matrix if exact else evaluate(design.graph, frames)


def _play(
    design: Design, variant: Variant, frames: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]
) -> list[Check]:
    checks = []
    for mode in BackPressure:
        result = run_regression(design.rtl, frames, expected, back_pressure=mode, seed=SEED, latency_frames=1)
        checks.append(equal(f"{variant.name}: failed checks, {mode} pauses", result.failure() or "none", "none"))
        if mode is BackPressure.NONE:
            interval = result.initiation_interval
            checks.append(
                equal(f"{variant.name}: cycles a transform", interval and interval.max, SIZE // variant.lanes)
            )
    return checks


def _structure(design: Design) -> tuple[int, int, int]:
    """Adders of words, words of delay, and words of the output queue, counted in the RTL.

    The transform's adders are those of cells wider than a word that come in: its counters are narrower.
    """
    manifest = Manifest.load(design.rtl)
    folder = design.folder / "structure"
    folder.mkdir()
    sources = [f'read_verilog "{(design.rtl / source).resolve()}"' for source in manifest.sources]
    passes = ["proc", "flatten", "opt", "memory -nomap", "opt_clean", "write_json structure.json"]
    run_yosys([*sources, f"hierarchy -top {manifest.top}", *passes], folder=folder, name="structure")
    module = json.loads((folder / "structure.json").read_text())["modules"][manifest.top]

    def number(cell: dict[str, Any], parameter: str) -> int:
        return int(cell["parameters"][parameter], 2)

    # Flattening names an adder `$flatten\\transform.\\butterfly_0_0.$add...`, a memory `transform.butterfly_0_0.words`.
    cells = [(name.replace("\\", ""), cell) for name, cell in module["cells"].items()]
    cells = [(name, cell) for name, cell in cells if name.removeprefix("$flatten").startswith(f"{NAME}.")]
    sums = [cell for _, cell in cells if cell["type"] in ("$add", "$sub") and number(cell, "Y_WIDTH") > WORD.bits]
    memories = {name: cell for name, cell in cells if cell["type"].startswith("$mem")}
    lanes = min(GROUP_LANES, design.accelerator.folding.folds[NAME].simd)
    words = lanes * sum(number(cell, "SIZE") for name, cell in memories.items() if ".butterfly_" in name)
    queue = lanes * sum(number(cell, "SIZE") for name, cell in memories.items() if ".output_" in name)
    registers = [name for name in module["netnames"] if name.startswith(f"{NAME}.butterfly_") and ".held_" in name]
    return len(sums), words + len(registers), queue


def _place(variant: Variant, folder: Path, run: BenchmarkRun) -> SynthesisResult:
    """Of the pipeline alone, between registers."""
    emit(RegisteredStage(WalshHadamard(variant.config)), folder / "timed", name=NAME)
    try:
        return synthesize(
            folder / "timed",
            folder / "placed",
            device=DEVICE,
            clock_mhz=variant.aim_mhz,
            seeds=SEEDS,
            top=NAME,
            progress=run.progress,
        )
    except TimingMissed as missed:
        return missed.result


def _play_netlist(
    design: Design, folder: Path, frames: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]
) -> str | None:
    """Map the design that was played, and play the netlist."""
    manifest = Manifest.load(design.rtl)
    mapped = folder / "mapped"
    mapped.mkdir()
    sources = [design.rtl / source for source in manifest.sources]
    netlist = map_netlist(sources, top=manifest.top, clock=manifest.clock, device=DEVICE, folder=mapped)
    absorb_output_registers(netlist.design)
    write_netlist(netlist, mapped)
    write_netlist_design(design.rtl, mapped / NETLIST_NAME, folder / "netlist")
    result = run_regression(
        folder / "netlist",
        frames,
        expected,
        back_pressure=BackPressure.RANDOM,
        seed=SEED,
        libraries=ecp5_models(),
    )
    return result.failure()


WALSH_HADAMARD = Benchmark(
    name="walsh-hadamard",
    description=f"pipeline of {SIZE} points of {WORD.bits} bits on {DEVICE.name}, best of {SEEDS} seeds: exact growth "
    f"to {VARIANTS[0].config.output_format.bits} bits; halved and rounded at each stage; exact at {WIDE_LANES} "
    "samples a cycle",
    target="RTL equal to scipy's Hadamard matrix under back-pressure, netlist too, a beat a cycle; at 1 sample a cycle "
    f"<= {ADDERS} adders, <= {WORDS:,} words of delay, <= {LUT4} LUT4, <= {CARRY} carry cells, >= {CLOCK_MHZ:g} MHz; "
    f"at {WIDE_LANES} >= {WIDE_CLOCK_MHZ:g} MHz and >= {WIDE_SPEEDUP:g} times the samples a second",
    minutes=20,
    measure=measure,
)
