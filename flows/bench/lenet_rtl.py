"""LeNet-300-100 whole in RTL on its Huffman-coded weights: every test image, and what the decoders cost."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, at_most, equal
from karui.flows.bench.estimate import look_up_tables
from karui.flows.bench.lenet_graph import compressed_lenet, matrices
from karui.flows.bench.reference_data import dataset
from karui.flows.bench.regression import play_at_interval
from karui.flows.compiling import stored_bits
from karui.flows.design import Design
from karui.flows.synthesize import CellCount, find_device
from karui.flows.synthesize.resources import count_cells
from karui.flows.synthesize.yosys import map_netlist
from karui.hw.accelerator import module_name
from karui.hw.emit import emit
from karui.hw.estimate import cost
from karui.hw.manifest import Manifest
from karui.hw.sparse_entries import HuffmanEntries, HuffmanEntriesConfig
from karui.hw.sparse_matrix_vector import SparseMatrixVectorConfig
from karui.sw.lower.agreement import to_graph_layout

DEVICE = find_device("ecp5-85f-8")
INTERVAL = 800
ERROR = 0.0164


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play all test images, and map the design and its decoders."""
    mnist = dataset("mnist", run.data_dir)
    graph = compressed_lenet(mnist)
    label = f"at {INTERVAL} cycles"
    played = play_at_interval(
        graph,
        to_graph_layout(mnist.test_images),
        interval=INTERVAL,
        folder=run.folder / "design",
        label=label,
        progress=run.progress,
    )
    wrong = float((played.golden.reshape(-1) != mnist.test_labels).mean())
    raw = {name: graph.constants[name].bits for name in matrices(graph)}
    stored = {}
    decoders: dict[str, Any] = {}
    accelerator = played.design.accelerator
    for engine in accelerator.engines:
        if not isinstance(engine.config, SparseMatrixVectorConfig):
            continue
        weights = graph.constants[f"{engine.name}.weights"]
        stored[f"{engine.name}.weights"] = stored_bits(weights, engine.config)
        entries, segments = engine.config.entries, engine.config.segments
        if isinstance(entries, HuffmanEntriesConfig):
            run.progress(f"{engine.name}: mapping its decoders to {DEVICE.name}")
            cells = _map_decoders(entries, run.folder / engine.name)
            decoders[engine.name] = {
                **_cost(cells),
                "decoders": 2 * segments.pe,
                "luts a decoder": round(look_up_tables(cells) / (2 * segments.pe)),
                "processing elements": segments.pe,
                "non-zero weights": int((weights.values != 0).sum()),
                "entries, fillers included": segments.entry_count,
                "cycles a pass": segments.pass_cycles,
            }
    run.progress(f"mapping the design to {DEVICE.name}")
    mapped = _map(played.design, run.folder / "mapped")
    ratio = sum(raw.values()) / sum(stored.values())
    return BenchmarkResult(
        checks=(
            *played.checks(label, INTERVAL),
            equal("layers on Huffman-coded weights", len(decoders), len(raw)),
            at_most("error on the test images, of the words that the RTL was held against", wrong, ERROR),
        ),
        details={
            **played.details,
            "rom_bits": {"raw": raw, "stored": stored, "raw over stored": round(ratio, 2)},
            "decoders": decoders,
            "design": _cost(sum(mapped.values(), CellCount())),
            "engines": {
                stage.name: {
                    "estimated": asdict(cost(stage.op, stage, accelerator.folding.folds[stage.name])),
                    "mapped": _cost(mapped[module_name(stage.name)]),
                }
                for stage in accelerator.stages
            },
        },
    )


def _map_decoders(entries: HuffmanEntriesConfig, folder: Path) -> CellCount:
    top = "decoders"
    sources = [emit(HuffmanEntries(entries), folder, name=top)[0]]
    return sum(_cells(sources, top, "clk", folder).values(), CellCount())


def _map(design: Design, folder: Path) -> dict[str, CellCount]:
    manifest = Manifest.load(design.rtl)
    return _cells([design.rtl / source for source in manifest.sources], manifest.top, manifest.clock, folder)


def _cells(sources: list[Path], top: str, clock: str, folder: Path) -> dict[str, CellCount]:
    folder.mkdir(exist_ok=True)
    netlist = map_netlist(sources, top=top, clock=clock, device=DEVICE, folder=folder)
    return count_cells(netlist.design["cells"], DEVICE.family)


def _cost(cells: CellCount) -> dict[str, float]:
    return {
        "luts": look_up_tables(cells),
        "lut4": cells.lut,
        "carry": cells.carry,
        "ff": cells.ff,
        "dsp": cells.dsp,
        "bram": cells.bram,
    }


LENET_RTL = Benchmark(
    name="lenet-rtl",
    description="LeNet-300-100 whole in RTL, its Huffman-coded weights decoded on chip: all 10,000 MNIST test images; "
    f"ROM bits and decoders on {DEVICE.name}",
    target=f"every word equal, <= {INTERVAL} cycles an image, error <= {100 * ERROR:.2f} %, cycles as predicted",
    minutes=15,
    measure=measure,
)
