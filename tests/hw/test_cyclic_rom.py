import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from karui.hw.cyclic_rom import CyclicRom, CyclicRomConfig

WORDS = (3, 1, 4, 1, 5, 9, 2, 6)


def _read(config: CyclicRomConfig, steps: int) -> list[int]:
    """Words read by a user who steps every `period` cycles, from the fourth cycle on."""
    rom = CyclicRom(config)
    read = []

    async def bench(context):
        await context.tick().repeat(3)
        for _ in range(steps):
            read.append(context.get(rom.word))
            context.set(rom.advance, 1)
            await context.tick()
            context.set(rom.advance, 0)
            if config.period > 1:
                await context.tick().repeat(config.period - 1)

    module = Module()
    module.submodules.rom = rom
    module.d.sync += Signal(name="clocked").eq(1)  # a constant has no clock of its own
    simulator = Simulator(module)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return read


@pytest.mark.parametrize("words", [WORDS, (7, 2), (5,), (5, 5, 5), tuple(range(70)), (*range(127), 1, 2, 3)])
@pytest.mark.parametrize(
    ("period", "storage"),
    [(1, "auto"), (1, "distributed"), (2, "auto"), (3, "distributed"), (4, "block"), (4, "auto"), (9, "block")],
)
def test_reads_its_words_again_and_again(words, period, storage):
    config = CyclicRomConfig(words=words, width=7, period=period, storage=storage)
    assert _read(config, 3 * len(words)) == list(words) * 3


def test_auto_takes_block_ram_for_deep_slow_roms_only():
    deep = tuple(range(65))
    assert CyclicRomConfig(words=deep, width=7, period=4).in_block_ram
    assert not CyclicRomConfig(words=deep, width=7, period=3).in_block_ram
    assert not CyclicRomConfig(words=deep[:64], width=7, period=4).in_block_ram


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": ()}, "needs at least one word"),
        ({"width": 3}, "must fit 3 bits, not reach 0x9"),
        ({"storage": "block", "period": 3}, "in block RAM needs a period of 4 cycles or more, not 3"),
        ({"storage": "flash"}, "storage must be block, distributed or auto, not 'flash'"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        CyclicRomConfig(**({"words": WORDS, "width": 4, "period": 4} | change))
