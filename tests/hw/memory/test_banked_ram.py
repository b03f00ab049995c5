import numpy as np
import pytest
from amaranth.sim import Simulator

from karui.hw.memory.banked_ram import BankedRam, BankedRamConfig


@pytest.mark.parametrize(
    ("words", "width", "banks", "block_rams"),
    [
        (20, 8, 1, 0),
        (1000, 16, 1, 1),
        # 46 block RAMs in 23 banks, or 48 in 3.
        (23040, 32, 3, 48),
        (5760, 128, 3, 45),
        (2880, 16, 3, 3),
        (5760, 6, 1, 3),
    ],
)
def test_banks_are_few_and_cheap(words: int, width: int, banks: int, block_rams: int) -> None:
    config = BankedRamConfig(words=words, width=width)
    assert (config.banks, config.cost.block_rams) == (banks, block_rams)
    assert config.banks * config.bank_words >= words
    assert config.latency == (2 if banks == 1 else 3)


@pytest.mark.parametrize("words", [5, 2100])
def test_words_come_back(words: int) -> None:
    config = BankedRamConfig(words=words, width=18)
    ram = BankedRam(config)
    random = np.random.default_rng(words)
    values = random.integers(0, 1 << 18, words)
    addresses = random.integers(0, words, 300)
    found: list[int] = []

    async def bench(context) -> None:
        for address, value in enumerate(values.tolist()):
            context.set(ram.write_enable, 1)
            context.set(ram.write_address, address)
            context.set(ram.write_data, value)
            await context.tick()
        context.set(ram.write_enable, 0)
        for address in (*addresses.tolist(), *[0] * config.latency):
            context.set(ram.read_address, address)
            found.append(context.get(ram.read_data))
            await context.tick()

    simulator = Simulator(ram)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert found[config.latency :] == values[addresses].tolist()
