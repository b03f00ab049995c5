import numpy as np
import pytest
from amaranth.sim import Simulator

from karui.hw.memory.banked_ram import bank_shape
from karui.hw.memory.weight_rom import (
    WEIGHT_ROM_LATENCY,
    SequentialRom,
    WeightRom,
    WeightRomConfig,
    bank_bits,
    weight_words,
)
from karui.sw.numerics import signed


def test_words_follow_the_loop_of_the_engine():
    weights = np.random.default_rng(0).choice([-1, 1], size=(8, 12))
    pe, simd, groups = 4, 3, 2
    words = weight_words(weights, pe, simd, groups=groups)
    for group in range(groups):
        for output_fold in range(2):
            for input_fold in range(4):
                word = words[group][output_fold * 4 + input_fold]
                for p in range(pe // groups):
                    for j in range(simd):
                        weight = weights[output_fold * pe + group * 2 + p, input_fold * simd + j]
                        assert word >> (p * simd + j) & 1 == (weight == 1)
                assert word < 1 << (pe // groups * simd)


def test_integers_lie_in_two_s_complement_one_after_another():
    words = weight_words(np.array([[1, -1, -8, 7]]), 1, 4, weight_format=signed(4))
    assert words == [[0x78F1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.ones(4)}, r"must be a matrix \(M, K\), not of shape \(4,\)"),
        ({"weights": np.array([[1, 0], [1, 1]])}, "must be -1 or \\+1, not 0"),
        ({"weights": np.array([[8, 0]]), "weight_format": signed(4)}, "weights from 0 to 8 do not fit their format"),
        ({"pe": 3}, "pe must divide the 4 outputs, not 3; use one of 1, 2, 4"),
        ({"simd": 4}, "simd must divide the 6 inputs, not 4; use one of 1, 2, 3, 6"),
        ({"groups": 3}, "groups must divide the 2 outputs of a word, not 3; use one of 1, 2"),
        ({"storage": "none"}, "storage must be block, distributed or auto, not 'none'"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        WeightRomConfig(**({"weights": np.ones((4, 6)), "pe": 2, "simd": 3} | change))


@pytest.mark.parametrize(("words", "run", "repeats"), [(12, 3, 4), (6, 1, 3), (40, 10, 2), (5, 5, 3)])
def test_runs_of_words_are_handed_out_again(words, run, repeats):
    order = np.tile(np.arange(words).reshape(-1, 1, run).repeat(repeats, axis=1).reshape(-1), 2)
    play_takes(SequentialRom(list(range(words)), 6, "auto", run=run, repeats=repeats), order)


@pytest.mark.parametrize(("words", "width", "bits"), [(600, 300, 144), (20, 700, 288), (9, 700, 700), (2050, 73, 36)])
def test_banks_of_a_wide_word_go_on_together(words, width, bits):
    random = np.random.default_rng(width)
    contents = [int.from_bytes(random.bytes(-(-width // 8))) % (1 << width) for _ in range(words)]
    rom = SequentialRom(contents, width, "auto", run=words // 2 if words % 2 == 0 else 1, repeats=2)
    assert bank_bits(words, width, rom.storage) == bits
    order = np.arange(words).reshape(-1, 1, rom.run).repeat(rom.repeats, axis=1).reshape(-1)
    play_takes(rom, [contents[word] for word in np.tile(order, 2)[:1500]])


def test_words_too_deep_for_a_block_ram_are_chosen_behind_its_register():
    contents = np.random.default_rng(3).integers(0, 4, 16_384 + 40)
    assert bank_shape(len(contents), 2) == (8_192, 2)
    play_takes(SequentialRom(contents.tolist(), 2, "auto"), np.concatenate([contents, contents[:20]]))


def test_words_of_a_deep_bank_lie_bit_by_bit():
    contents = np.random.default_rng(4).integers(0, 1 << 8, 4_000)
    assert bank_shape(len(contents), 8) == (4_000, 4)
    play_takes(SequentialRom(contents.tolist(), 8, "auto"), contents)


def play_takes(rom, order):
    takes = np.random.default_rng(len(order)).random(4 * len(order)) < 0.6
    taken = np.cumsum(takes) - takes

    async def play(context):
        for cycle, take in enumerate(takes[: np.searchsorted(taken, len(order))]):
            context.set(rom.take, int(take))
            if cycle >= WEIGHT_ROM_LATENCY:
                assert context.get(rom.data) == order[taken[cycle - WEIGHT_ROM_LATENCY]]
            await context.tick()

    simulator = Simulator(rom)
    simulator.add_clock(1e-6)
    simulator.add_testbench(play)
    simulator.run()


@pytest.mark.parametrize(("simd", "relayed", "later"), [(32, True, 0), (64, True, 1), (64, False, 0)])
def test_takes_relayed_to_many_banks_are_answered_a_cycle_later(simd, relayed, later):
    weights = np.random.default_rng(simd).integers(-128, 128, (40, 64))
    config = WeightRomConfig(weights=weights, pe=1, simd=simd, weight_format=signed(8), relayed=relayed)
    latency = WEIGHT_ROM_LATENCY + later
    assert config.latency == latency
    rom = WeightRom(config)
    (words,) = config.words()
    seen = []

    async def play(context):
        context.set(rom.o.take, 1)
        for _ in range(len(words) + latency):
            seen.append(context.get(rom.o.data[0]))
            await context.tick()

    simulator = Simulator(rom)
    simulator.add_clock(1e-6)
    simulator.add_testbench(play)
    simulator.run()
    assert seen[latency:] == words
