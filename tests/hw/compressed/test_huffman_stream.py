from pathlib import Path

import numpy as np
import pytest

from karui.hw.compressed.huffman_decoder import HuffmanDecoderConfig
from karui.hw.compressed.huffman_images import interleaved
from karui.hw.compressed.huffman_stream import HuffmanStream, HuffmanStreamConfig
from karui.hw.emit.manifest import Manifest
from karui.sim.frames_on_demand import write_frames_on_demand
from karui.sim.regression import run_regression
from karui.sim.results import BackPressure
from karui.sim.stream_testbench import run_streams
from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.numerics import memory_image, read_memory_image


def _stream(symbols: np.ndarray, *, slots: int = 6, lanes: int = 1, max_length: int = 15) -> HuffmanStreamConfig:
    code = CanonicalCode.from_symbols(symbols, max_length=max_length)
    streams = interleaved(symbols, slots * lanes)
    return HuffmanStreamConfig(decoder=HuffmanDecoderConfig(code=code, streams=streams, lanes=lanes))


def _symbols(count: int, alphabet: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).geometric(0.05, count).clip(max=alphabet) - 1


@pytest.mark.parametrize("sink", BackPressure)
@pytest.mark.parametrize(("slots", "lanes"), [(6, 1), (6, 2), (7, 1), (8, 2), (13, 1)])
def test_yields_a_word_whenever_the_consumer_is_ready(sink, slots, lanes):
    symbols = _symbols(slots * lanes * 20, 256, slots)
    config = _stream(symbols, slots=slots, lanes=lanes)
    words = slots * 50
    for seed in range(3):
        _, outputs = run_streams(HuffmanStream(config), {}, {"o": words}, sink=sink, seed=seed, settle=1)
        run = outputs["o"]
        assert run.words.ravel().tolist() == np.resize(symbols, words * lanes).tolist()
        assert run.departures[0] == config.latency
        # A word is there in the cycle behind each transfer: the consumer never waits.
        assert run.departures[1:].tolist() == (run.taken[:-1] + 1).tolist()


@pytest.mark.parametrize("slots", [6, 7, 8, 13])
def test_no_pause_is_followed_by_one_of_the_decoder(slots):
    config = _stream(_symbols(slots * 20, 256, slots), slots=slots)
    # Long enough to empty a full queue, after pauses of every length: rounds begin in every phase of the output.
    burst = 2 * config.queue.depth
    pauses = np.arange(2 * slots)
    takes = config.latency + np.arange(burst * pauses.size) + np.repeat(np.cumsum(pauses), burst)
    _, outputs = run_streams(HuffmanStream(config), {}, {"o": takes.size}, takes={"o": takes}, settle=1)
    assert outputs["o"].taken.tolist() == takes.tolist()


def _decoded_wrong(folder: Path, expected: np.ndarray, back_pressure: BackPressure) -> str:
    frames = len(expected)
    result = run_regression(folder, np.zeros((frames, 1), np.int64), expected, back_pressure=back_pressure)
    if result.passed and back_pressure is BackPressure.NONE:
        assert result.initiation_interval == Manifest.load(folder).predicted.initiation_interval
    return result.failure()


@pytest.mark.parametrize("lanes", [1, 2])
def test_regression_decodes_the_images_and_catches_any_bit_flipped(tmp_path, lanes):
    symbols = _symbols(12 * 40, 200, seed=lanes)
    config = _stream(symbols, lanes=lanes)
    write_frames_on_demand(
        HuffmanStream(config), tmp_path, element=config.queue.element, lanes=lanes, words=len(symbols) // lanes
    )
    expected = np.tile(symbols, (20, 1))
    for back_pressure in BackPressure:
        assert not _decoded_wrong(tmp_path, expected, back_pressure)

    random = np.random.default_rng(lanes)
    images = config.decoder.images
    used = {f"source_decoder_lane_{lane}.mem": (images[lane].words, images[lane].bits.bits) for lane in range(lanes)}
    used["source_decoder.mem"] = images[0].symbols, len(images[0].symbols) * images[0].symbol_bits
    for name, (words, bits) in used.items():
        sound = (tmp_path / name).read_text()
        assert read_memory_image(tmp_path / name) == list(words)
        width = images[0].symbol_bits if name == "source_decoder.mem" else images[0].word_bits
        for bit in (0, bits - 1, *random.integers(bits, size=3)):
            flipped = list(words)
            flipped[bit // width] ^= 1 << (width - 1 - bit % width)
            (tmp_path / name).write_text(memory_image(flipped, width))
            assert "word" in _decoded_wrong(tmp_path, expected, BackPressure.NONE)
        (tmp_path / name).write_text(sound)
    assert not _decoded_wrong(tmp_path, expected, BackPressure.NONE)


def test_refuses_a_stream_without_symbols():
    code = CanonicalCode(lengths=np.array([1, 1]))
    streams = (*[np.array([0, 1])] * 5, np.array([], dtype=np.int64))
    with pytest.raises(ValueError, match="slot 5 of a Huffman stream has no symbols to decode"):
        HuffmanStreamConfig(decoder=HuffmanDecoderConfig(code=code, streams=streams))
