"""The Huffman decoder alone: symbols a second, look-up tables, and what doubling the rate costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.flows.bench.estimate import look_up_tables
from karui.flows.synthesize import CellCount, SynthesisResult, TimingMissed, find_device, synthesize
from karui.hw.emit import emit
from karui.hw.huffman_decoder import HuffmanDecoderConfig
from karui.hw.huffman_images import interleaved
from karui.hw.huffman_stream import HuffmanStream, HuffmanStreamConfig
from karui.hw.manifest import Manifest
from karui.hw.skid_buffer import SkidBuffer
from karui.sim.frames_on_demand import write_frames_on_demand
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
        checks += _play(config, symbols, run, name)
        result = _place(config, run, name)
        cells, rate = result.by_module["source"], (result.fmax_mhz or 0.0) * 1e6 * lanes
        cost[name] = cells.lut, look_up_tables(cells)
        checks.append(at_least(f"{name}: symbols a second, best seed", round(rate), lanes * SYMBOLS_PER_SECOND))
        if lanes == 1:
            checks.append(at_most(f"{name}: LUT4", cells.lut, LUT4))
        details[name] = {"slots": slots, "lanes": lanes, "symbols_a_pass": len(symbols)} | _details(
            config, result, cells
        )
    for kind, index in (("LUT4", 0), ("all look-up tables", 1)):
        ratio = round(cost["double"][index] / cost["single"][index], 2)
        checks.append(Check(what=f"{kind}, double over single", value=ratio, target="< 2", passed=ratio < 2))
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


class _Timed(wiring.Component):
    """The decoder between registers, as it is in a design: both directions of its stream end in a skid buffer."""

    o: stream.Interface

    def __init__(self, config: HuffmanStreamConfig) -> None:
        self._source = HuffmanStream(config)
        self._layout = data.StructLayout({"symbols": self._source.o.payload.shape()})
        super().__init__({"o": Out(stream.Signature(self._layout))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.source = source = self._source
        m.submodules.end = end = SkidBuffer(self._layout)
        m.d.comb += [
            end.i.valid.eq(source.o.valid),
            end.i.payload.as_value().eq(source.o.payload),
            source.o.ready.eq(end.i.ready),
        ]
        wiring.connect(m, end.o, wiring.flipped(self.o))
        return m


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


def _play(config: HuffmanStreamConfig, symbols: Symbols, run: BenchmarkRun, name: str) -> list[Check]:
    """Decode on Verilator, with and without pauses of the consumer, and with a bit of each image flipped."""
    folder = run.folder / name.replace(" ", "-") / "rtl"
    lanes = config.decoder.lanes
    words = len(symbols) // lanes
    run.progress(f"{name}: simulating {FRAMES} passes over {len(symbols):,} symbols")
    write_frames_on_demand(
        HuffmanStream(config), folder, element=config.queue.element, lanes=lanes, words=words
    )  # fmt: skip
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


def _place(config: HuffmanStreamConfig, run: BenchmarkRun, name: str) -> SynthesisResult:
    folder = run.folder / name.replace(" ", "-") / "placed"
    emit(_Timed(config), folder, name="decoder")
    run.progress(f"{name}: placing and routing on {DEVICE.name}")
    try:
        return synthesize(
            folder, folder / "synthesis", device=DEVICE, clock_mhz=AIM_MHZ[config.decoder.slots], seeds=SEEDS,
            top="decoder", progress=run.progress,
        )  # fmt: skip
    except TimingMissed as missed:
        return missed.result


def _details(config: HuffmanStreamConfig, result: SynthesisResult, cells: CellCount) -> dict[str, Any]:
    return {
        "stream_bits": [image.bits.bits for image in config.decoder.images],
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
    target="every symbol right and one a cycle, under back-pressure too, flipped bits caught; "
    f">= {SYMBOLS_PER_SECOND / 1e6:.0f} million symbols a second in <= {LUT4} LUT4; double rate for less than twice "
    "the look-up tables",
    minutes=15,
    measure=measure,
)
