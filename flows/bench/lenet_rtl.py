"""LeNet-300-100 whole in RTL on its Huffman-coded weights: every test image, and what the decoders cost."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, at_most, equal
from karui.flows.bench.lenet_graph import compressed_lenet, matrices
from karui.flows.bench.mapped_cells import cell_figures, look_up_tables, map_design, map_sources, total
from karui.flows.bench.reference_data import dataset
from karui.flows.bench.regression import play_at_interval
from karui.flows.compiling import stored_bits
from karui.flows.synthesize import CellCount, find_device
from karui.hw.compressed.sparse_entries import HuffmanEntries, HuffmanEntriesConfig
from karui.hw.compressed.sparse_matrix_vector import SparseMatrixVectorConfig
from karui.hw.emit.accelerator import module_name
from karui.hw.emit.verilog import emit
from karui.hw.plan.estimate import cost
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
                **cell_figures(cells),
                "decoders": 2 * segments.pe,
                "luts a decoder": round(look_up_tables(cells) / (2 * segments.pe)),
                "processing elements": segments.pe,
                "non-zero weights": int((weights.values != 0).sum()),
                "entries, fillers included": segments.entry_count,
                "cycles a pass": segments.pass_cycles,
            }
    run.progress(f"mapping the design to {DEVICE.name}")
    mapped = map_design(played.design, DEVICE)
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
            "design": cell_figures(total(mapped)),
            "engines": {
                stage.name: {
                    "estimated": asdict(cost(stage.op, stage, accelerator.folding.folds[stage.name])),
                    "mapped": cell_figures(mapped[module_name(stage.name)]),
                }
                for stage in accelerator.stages
            },
        },
    )


def _map_decoders(entries: HuffmanEntriesConfig, folder: Path) -> CellCount:
    top = "decoders"
    sources = [emit(HuffmanEntries(entries), folder, name=top)[0]]
    return total(map_sources(sources, top=top, clock="clk", device=DEVICE, folder=folder))


LENET_RTL = Benchmark(
    name="lenet-rtl",
    description="LeNet-300-100 whole in RTL, its Huffman-coded weights decoded on chip: all 10,000 MNIST test images; "
    f"ROM bits and decoders on {DEVICE.name}",
    target=f"every word equal, <= {INTERVAL} cycles an image, error <= {100 * ERROR:.2f} %, cycles as predicted",
    minutes=15,
    measure=measure,
)
