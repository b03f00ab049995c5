import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from karui.hw.memory.cyclic_rom import REGISTERED_PERIOD, CyclicRom, CyclicRomConfig

WORDS = (3, 1, 4, 1, 5, 9, 2, 6)


def _read(config: CyclicRomConfig, steps: int) -> list[int]:
    """Words read in steps of `period` cycles or more, from the first cycle on (of slow ROMs, the fourth)."""
    rom = CyclicRom(config)
    read = []

    async def bench(context):
        if config.period >= REGISTERED_PERIOD:
            await context.tick().repeat(3)
        for index in range(steps):
            read.append(context.get(rom.word))
            context.set(rom.advance, 1)
            await context.tick()
            context.set(rom.advance, 0)
            idle = config.period - 1 + (0, 0, 1, 0, 3)[index % 5]
            if idle:
                await context.tick().repeat(idle)

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
    [(1, "auto"), (1, "distributed"), (1, "block"), (2, "auto"), (3, "block"), (4, "block"), (4, "auto"), (9, "block")],
)
def test_reads_its_words_again_and_again(words, period, storage):
    config = CyclicRomConfig(words=words, width=7, period=period, storage=storage)
    assert _read(config, 3 * len(words)) == list(words) * 3


@pytest.mark.parametrize("period", [1, 4])
def test_auto_takes_block_ram_for_deep_roms(period):
    deep = tuple(range(65))
    assert CyclicRomConfig(words=deep, width=7, period=period).in_block_ram
    assert not CyclicRomConfig(words=deep[:64], width=7, period=period).in_block_ram


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": ()}, "needs at least one word"),
        ({"width": 3}, "must fit 3 bits, not reach 0x9"),
        ({"storage": "flash"}, "storage must be block, distributed or auto, not 'flash'"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        CyclicRomConfig(**({"words": WORDS, "width": 4, "period": 4} | change))
