import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from karui.hw.compressed.huffman_decoder import HuffmanDecoder, HuffmanDecoderConfig, PassCounter
from karui.hw.compressed.huffman_images import HuffmanImages, interleaved
from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.numerics import read_memory_image


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


@st.composite
def _configs(draw):
    alphabet = draw(st.integers(1, 256))
    counts = draw(st.lists(st.integers(0, 40), min_size=alphabet, max_size=alphabet).filter(any))
    # Powers of two spread the lengths; a limit as short as the alphabet allows squeezes them again.
    least = max(1, (sum(map(bool, counts)) - 1).bit_length())
    code = CanonicalCode.from_counts(
        [1 << (count - 1) if count else 0 for count in counts], max_length=draw(st.integers(least, 15))
    )
    slots, lanes = draw(st.integers(6, 9)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    streams = tuple(
        random.choice(code.sorted_symbols, count)
        for count in draw(st.lists(st.integers(1, 30), min_size=slots, max_size=slots))
        for _ in range(lanes)
    )
    storage = draw(st.sampled_from(["auto", "block", "distributed"]))
    return HuffmanDecoderConfig(code=code, streams=streams, lanes=lanes, storage=storage)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(config=_configs(), seed=st.integers(0, 1 << 32))
def test_decodes_what_was_encoded(config, seed):
    enables = (np.random.default_rng(seed).random(40 * config.slots) < 0.8).astype(int).tolist()
    for symbols, stream in zip(_decode(config, enables), config.streams, strict=True):
        assert symbols == np.resize(stream, len(symbols)).tolist()
    for lane, images in enumerate(config.images):
        for symbols, stream in zip(images.decoded(), config.streams[lane :: config.lanes], strict=True):
            assert symbols.tolist() == stream.tolist()


def test_a_slot_without_symbols_is_left_out():
    code = CanonicalCode(lengths=np.array([1, 2, 2]))
    streams = (np.array([0, 2, 1]), np.array([], dtype=np.int64), *[np.array([1, 1, 0, 2])] * 4)
    config = HuffmanDecoderConfig(code=code, streams=streams)
    decoded = _decode(config, [1, 0, 1, 1, 1, 1] * 8)
    assert decoded[0] == [0, 2, 1, 0, 2, 1, 0, 2]
    assert decoded[1] == []
    assert decoded[2] == [1, 1, 0, 2, 1, 1, 0, 2]


def test_images_say_what_they_hold(tmp_path):
    code = CanonicalCode(lengths=np.array([2, 0, 1, 3, 3]))
    # Words: symbol 2 is 0, 0 is 10, 3 is 110, 4 is 111.
    images = HuffmanImages(code=code, streams=(np.array([0, 2]), np.array([3, 4])))
    assert images.word_bits == 4
    assert images.words == (0b1001, 0b1011, 0b1000, 0)
    assert images.starts == (0, 3)
    assert images.limits == (0, 0b100, 0b110, 0b1000)
    assert images.symbols == (2, 0, 3, 4)
    stream, symbols, table = images.save(tmp_path, "gaps")
    assert read_memory_image(stream) == list(images.words)
    assert read_memory_image(symbols) == [2, 0, 3, 4]
    lines = [line.split() for line in table.read_text().splitlines()]
    assert ["3", "3", "2", "110"] in lines
    assert ["1", "2", "3"] in lines


def test_interleaved_deals_symbols_out():
    assert [part.tolist() for part in interleaved(np.arange(6), 3)] == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(ValueError, match="7 symbols cannot be dealt out evenly to 3 streams; append 2 of"):
        interleaved(np.arange(7), 3)


@pytest.mark.parametrize(
    ("streams", "lanes", "message"),
    [
        ([3] * 5, 1, "has 6 stages: 1 lanes need 6 slots or more, not 5; deal the symbols out to 6 streams"),
        ([3] * 13, 2, "lanes must divide the 13 streams, not 2"),
        ([3] * 11 + [4], 2, r"of one length, not \[3, 4\] symbols in slot 5"),
    ],
)
def test_refuses(streams, lanes, message):
    code = CanonicalCode(lengths=np.array([1, 1]))
    with pytest.raises(ValueError, match=message):
        HuffmanDecoderConfig(code=code, streams=tuple(np.zeros(n, dtype=np.int64) for n in streams), lanes=lanes)


def test_refuses_a_symbol_without_a_word():
    code = CanonicalCode(lengths=np.array([1, 0, 1]))
    with pytest.raises(ValueError, match="the symbol 1 has no word in the code"):
        HuffmanDecoderConfig(code=code, streams=(np.array([0, 1]),) * 6)
