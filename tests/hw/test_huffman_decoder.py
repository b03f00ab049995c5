import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from karui.hw.huffman_decoder import HuffmanDecoder, HuffmanDecoderConfig, PassCounter
from karui.sw.coding.canonical_code import CanonicalCode


def _code(random: np.random.Generator, alphabet: int, max_length: int) -> CanonicalCode:
    """Long-tailed counts, so that all lengths occur."""
    return CanonicalCode.from_counts(
        (random.pareto(0.6, alphabet) * 10 + 1).astype(np.int64).clip(max=1 << 40), max_length=max_length
    )


def _decode(config: HuffmanDecoderConfig, enables: list[int]) -> list[list[int]]:
    """What each stream yields when the slots are enabled as listed, a cycle each; checks turns and latency."""
    decoder, counter, enable = HuffmanDecoder(config), PassCounter(config.counts), Signal()
    module = Module()
    module.submodules += [decoder, counter]
    module.d.comb += [decoder.enable.eq(enable), counter.enable.eq(enable), decoder.last.eq(counter.last)]
    decoded: list[list[int]] = [[] for _ in config.streams]

    async def bench(context):
        for cycle in range(len(enables) + config.latency):
            assert context.get(decoder.turn) == cycle % config.slots
            context.set(enable, enables[cycle] if cycle < len(enables) else 0)
            due = cycle - config.latency
            assert context.get(decoder.valid) == (due >= 0 and enables[due])
            if context.get(decoder.valid):
                assert context.get(decoder.slot) == due % config.slots
                for lane in range(config.lanes):
                    decoded[due % config.slots * config.lanes + lane].append(context.get(decoder.symbols[lane]))
            await context.tick()

    simulator = Simulator(module)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return decoded


@pytest.mark.parametrize(
    ("alphabet", "max_length", "slots", "lanes"),
    [(256, 15, 6, 1), (256, 15, 6, 2), (256, 15, 7, 1), (200, 12, 8, 2), (256, 8, 6, 1), (32, 9, 6, 1), (16, 5, 6, 1),
     (5, 4, 11, 1), (3, 2, 6, 3), (2, 1, 6, 1), (1, 1, 6, 1)],
)  # fmt: skip
@pytest.mark.parametrize("rate", [1.0, 0.6])
def test_decodes_every_stream_again_and_again(alphabet, max_length, slots, lanes, rate):
    random = np.random.default_rng(alphabet)
    code = _code(random, alphabet, max_length)
    counts = random.integers(3, 50, slots)
    streams = tuple(random.choice(code.sorted_symbols, counts[n // lanes]) for n in range(slots * lanes))
    config = HuffmanDecoderConfig(code=code, streams=streams, lanes=lanes)
    decoded = _decode(config, (random.random(120 * slots) < rate).astype(int).tolist())
    for symbols, stream in zip(decoded, streams, strict=True):
        assert symbols == np.resize(stream, len(symbols)).tolist()
        assert len(symbols) > len(stream)
