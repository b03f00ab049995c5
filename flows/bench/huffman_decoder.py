"""The Huffman decoder alone: symbols a second, look-up tables, and what doubling the rate costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.flows.bench.mapped_cells import look_up_tables
from karui.flows.synthesize import CellCount, SynthesisResult, TimingMissed, find_device, synthesize
from karui.flows.synthesize.block_ram_register import absorb_output_registers
from karui.flows.synthesize.yosys import map_netlist, write_netlist
from karui.hw.compressed.huffman_decoder import HuffmanDecoderConfig
from karui.hw.compressed.huffman_images import interleaved
from karui.hw.compressed.huffman_stream import HuffmanStream, HuffmanStreamConfig
from karui.hw.emit.manifest import Manifest
from karui.hw.emit.verilog import emit
from karui.sim.frames_on_demand import RegisteredSource, write_frames_on_demand
from karui.sim.netlist import NETLIST_NAME, ecp5_models, write_netlist_design
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sw.coding.canonical_code import LONGEST_CODE, CanonicalCode
from karui.sw.numerics import memory_image, read_memory_image

DEVICE = find_device("ecp5-85f-8")
ALPHABET = 256
# Each symbol once and as many drawn: a lane's streams fill one block RAM, 1024 words of 16 bits.
DRAWN = 2480
SYMBOLS_PER_SECOND = 220e6
LUT4 = 750
# A seventh turn gives the shift two cycles; with six the loop is as short as it can be.
SLOTS, FEWEST_SLOTS = 7, 6
AIM_MHZ = {SLOTS: 250.0, FEWEST_SLOTS: 220.0}
SEEDS = 3
SEED = 1
FRAMES = 25
NETLIST_FRAMES = 3

Symbols = np.ndarray[Any, np.dtype[np.int64]]


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Play, place and route the decoder, that of double rate, and that of fewest streams."""
    code = _code()
    checks: list[Check] = [
        equal("symbols of the code", len(code.sorted_symbols), ALPHABET),
        equal("bits of its longest word", code.max_length, LONGEST_CODE),
    ]
    details: dict[str, Any] = {}
    cost: dict[str, tuple[int, int]] = {}
    for name, slots, lanes in (("single", SLOTS, 1), ("double", SLOTS, 2), ("six streams", FEWEST_SLOTS, 1)):
        symbols = _symbols(code, slots * lanes)
        streams = interleaved(symbols, slots * lanes)
        config = HuffmanStreamConfig(decoder=HuffmanDecoderConfig(code=code, streams=streams, lanes=lanes))
        folder = run.folder / name.replace(" ", "-")
        run.progress(f"{name}: simulating {FRAMES} passes over {len(symbols):,} symbols")
        checks += _play(config, symbols, folder, name)
        run.progress(f"{name}: placing and routing on {DEVICE.name}")
        result = _place(config, folder, run)
        run.progress(f"{name}: simulating the netlist")
        checks.append(_play_netlist(symbols, folder, name))
        cells, rate = result.by_module["source"], (result.fmax_mhz or 0.0) * 1e6 * lanes
        cost[name] = cells.lut, look_up_tables(cells)
        checks.append(at_least(f"{name}: symbols a second, best seed", round(rate), lanes * SYMBOLS_PER_SECOND))
        if lanes == 1:
            checks.append(at_most(f"{name}: LUT4", cells.lut, LUT4))
        details[name] = {
            "slots": slots,
            "lanes": lanes,
            "symbols_a_pass": len(symbols),
            "stream_bits": [image.bits.bits for image in config.decoder.images],
            **_figures(result, cells),
        }
    for kind, index in (("LUT4", 0), ("all look-up tables", 1)):
        ratio = round(cost["double"][index] / cost["single"][index], 2)
        checks.append(Check(what=f"{kind}, double over single", value=ratio, target="< 2", passed=ratio < 2))
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _code() -> CanonicalCode:
    """A code of all symbols whose words have up to 15 bits: frequencies over six orders of magnitude."""
    return CanonicalCode.from_counts((2 ** (20 * np.linspace(0, 1, ALPHABET) ** 1.5)).astype(np.int64))


def _symbols(code: CanonicalCode, streams: int) -> Symbols:
    """A sequence for so many streams: all symbols, and more of them as often as the code expects them."""
    random = np.random.default_rng(SEED)
    lanes = streams // FEWEST_SLOTS
    frequencies = 0.5**code.lengths
    drawn = random.choice(ALPHABET, DRAWN * lanes, p=frequencies / frequencies.sum())
    symbols = random.permutation(np.concatenate([np.tile(np.arange(ALPHABET), lanes), drawn]))
    return symbols[: len(symbols) // streams * streams]


def _play(config: HuffmanStreamConfig, symbols: Symbols, folder: Path, name: str) -> list[Check]:
    """Decode on Verilator, with and without pauses of the consumer, and with a bit of each image flipped."""
    lanes = config.decoder.lanes
    words = len(symbols) // lanes
    write_frames_on_demand(HuffmanStream(config), folder, element=config.queue.element, lanes=lanes, words=words)
    frames, expected = np.zeros((FRAMES, 1), dtype=np.int64), np.tile(symbols, (FRAMES, 1))
    checks = []
    for mode in BackPressure:
        result = run_regression(folder, frames, expected, back_pressure=mode, seed=SEED)
        checks.append(equal(f"{name}: failed checks, {mode} pauses", result.failure() or "none", "none"))
        if mode is BackPressure.NONE:
            interval = result.initiation_interval
            checks.append(equal(f"{name}: cycles a word", interval and interval.max / words, 1.0))
    for image in _roms(folder):
        sound = image.read_text()
        contents = read_memory_image(image)
        contents[len(contents) // 2] ^= 1
        image.write_text(memory_image(contents, 4 * len(sound.split("\n")[0])))
        result = run_regression(folder, frames, expected, seed=SEED)
        image.write_text(sound)
        found = (result.failure() or "nothing").splitlines()[0]
        checks.append(
            Check(what=f"{name}: a bit of {image.name}", value=found, target="caught", passed=not result.passed)
        )
    return checks


def _roms(folder: Path) -> list[Path]:
    """Images of the design's ROMs; those of its queues are zeros."""
    images = [folder / image for image in Manifest.load(folder).memories]
    return [image for image in images if any(read_memory_image(image))]


def _place(config: HuffmanStreamConfig, folder: Path, run: BenchmarkRun) -> SynthesisResult:
    timed = folder / "timed"
    emit(RegisteredSource(HuffmanStream(config)), timed, name="decoder")
    aim = AIM_MHZ[config.decoder.slots]
    try:
        return synthesize(
            timed, timed / "placed", device=DEVICE, clock_mhz=aim, seeds=SEEDS, top="decoder", progress=run.progress
        )
    except TimingMissed as missed:
        return missed.result


def _play_netlist(symbols: Symbols, folder: Path, name: str) -> Check:
    """Map the design that was played, and play the netlist."""
    manifest = Manifest.load(folder)
    mapped = folder / "mapped"
    mapped.mkdir()
    sources = [folder / source for source in manifest.sources]
    netlist = map_netlist(sources, top=manifest.top, clock=manifest.clock, device=DEVICE, folder=mapped)
    absorb_output_registers(netlist.design)
    write_netlist(netlist, mapped)
    write_netlist_design(folder, mapped / NETLIST_NAME, folder / "netlist")
    frames, expected = np.zeros((NETLIST_FRAMES, 1), dtype=np.int64), np.tile(symbols, (NETLIST_FRAMES, 1))
    result = run_regression(
        folder / "netlist", frames, expected, back_pressure=BackPressure.RANDOM, seed=SEED, libraries=ecp5_models()
    )
    return equal(f"{name}: failed checks of the netlist, random pauses", result.failure() or "none", "none")


def _figures(result: SynthesisResult, cells: CellCount) -> dict[str, Any]:
    """Cells of the decoder alone, without the registers around it."""
    return {
        "lut4": cells.lut,
        "carry": cells.carry,
        "lutram": cells.lutram,
        "all_look_up_tables": look_up_tables(cells),
        "ff": cells.ff,
        "bram": cells.bram,
        "mhz_by_seed": {
            str(seed.seed): None if seed.fmax_mhz is None else round(seed.fmax_mhz, 1) for seed in result.seeds
        },
        "critical_path": str(result.critical_path).split("\n"),
    }


HUFFMAN_DECODER = Benchmark(
    name="huffman-decoder",
    description=f"canonical Huffman decoder of {ALPHABET} symbols in up to {LONGEST_CODE} bits on {DEVICE.name}, best "
    f"of {SEEDS} seeds: a symbol a cycle, two a cycle, and a symbol a cycle from the fewest streams",
    target="every symbol right and one a cycle, in the netlist too and under back-pressure, flipped bits caught; "
    f">= {SYMBOLS_PER_SECOND / 1e6:.0f} million symbols a second in <= {LUT4} LUT4; double rate for less than twice "
    "the look-up tables",
    minutes=15,
    measure=measure,
)
