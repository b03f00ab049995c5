"""Weights in ROMs: the weight source of an engine whose weights are constants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt
from amaranth.hdl import Array, Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import Out

from karui.hw.memory.banked_ram import bank_shape
from karui.hw.memory.memory_style import DISTRIBUTED_ROM_WORDS, Storage, resolve, rom_attributes
from karui.hw.memory.resources import memory_cost
from karui.hw.memory.word_source import WeightSource
from karui.hw.streams.counters import cycle
from karui.hw.streams.stream import delayed
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import BIPOLAR, NumberFormat, pack, to_integers

WEIGHT_ROM_LATENCY = 3
"""Cycles from a take to the word of group 0: the memory and the two registers behind it."""
SHALLOW_WORDS = 1024
"""Words that a block RAM holds whose words are wide: synthesis needs no help with these."""
_BANK_BLOCK_RAMS = 8


def weight_words(
    weights: npt.NDArray[Any], pe: int, simd: int, *, groups: int = 1, weight_format: NumberFormat = BIPOLAR
) -> list[list[int]]:
    """The words of a `WeightSource`.

    Parameters
    ----------
    weights : ndarray, shape (M, K)
        Integers of the format.
    pe, simd : int
        Outputs and inputs a word; they divide M and K.
    groups : int
        Parts of a word; it divides `pe`.
    weight_format : NumberFormat
        Format of a weight.

    Returns
    -------
    list of list of int
        For each group its part of each word, in the order of the engine's loop.
    """
    outputs, inputs = weights.shape
    per_group = pe // groups
    blocks = weights.reshape(outputs // pe, groups, per_group, inputs // simd, simd)
    # (group, output fold, input fold, output in the group, input)
    ordered = blocks.transpose(1, 0, 3, 2, 4).reshape(groups, -1, per_group * simd)
    return [to_integers(pack(part, weight_format)) for part in ordered]


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredWeightsConfig(ABC):
    """What the parameters of all sources of constant weights have.

    Parameters
    ----------
    weights : ndarray, shape (M, K)
        Integers of the format; K is the length of a vector, or of each block's part of it.
    pe, simd : int
        Outputs and inputs a word.
    weight_format : NumberFormat
        Format of a weight.
    groups : int
        Parts of a word, as the engine asks for (`MatrixVectorConfig.groups`).
    storage : {"block", "distributed", "auto"}
        Memory, as each source says.

    Raises
    ------
    ValueError
        If the weights are not a matrix of words of the format, or a factor does not divide its dimension.
    """

    weights: npt.NDArray[Any]
    pe: int
    simd: int
    weight_format: NumberFormat = BIPOLAR
    groups: int = 1
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        if self.weights.ndim != 2:
            raise ValueError(f"weights must be a matrix (M, K), not of shape {self.weights.shape}")
        if not self.weight_format.admits(self.weights):
            if self.weight_format.is_bipolar:
                raise ValueError(
                    f"weights of a binary engine must be -1 or +1, not {self.weights[abs(self.weights) != 1][0]}"
                )
            raise ValueError(
                f"weights from {self.weights.min()} to {self.weights.max()} do not fit their format "
                f"{self.weight_format}; give a wider one"
            )
        require_divisor("pe", self.pe, self.weights.shape[0], "outputs")
        require_divisor("simd", self.simd, self.weights.shape[1], "inputs")
        require_divisor("groups", self.groups, self.pe, "outputs of a word")

    @property
    @abstractmethod
    def latency(self) -> int:
        """Cycles from a take to group 0's part of the word; group `g` follows `g` cycles later."""

    @property
    def width(self) -> int:
        """Bits of a group's part of a word."""
        return self.pe // self.groups * self.simd * self.weight_format.bits

    def words(self) -> list[list[int]]:
        """What comes out: for each group its part of each word."""
        return weight_words(self.weights, self.pe, self.simd, groups=self.groups, weight_format=self.weight_format)


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightRomConfig(StoredWeightsConfig):
    """Parameters of a `WeightRom`, beside those of every source; `auto` keeps up to 16 words in look-up tables.

    Parameters
    ----------
    repeats : int
        How often the words of an output fold are handed out before those of the next.
    relayed : bool
        Whether a take passes a register on its way to several banks of block RAMs.
    """

    repeats: int = 1
    relayed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeats < 1:
            raise ValueError(f"repeats of a weight ROM must be 1 or more, not {self.repeats}")
        resolve(self.storage, depth=self.depth, limit=DISTRIBUTED_ROM_WORDS)

    @property
    def depth(self) -> int:
        """Words of the loop."""
        return self.weights.size // (self.pe * self.simd)

    @property
    def latency(self) -> int:
        """The same for block RAM and look-up tables, and a cycle more for takes that are relayed to several banks."""
        storage = resolve(self.storage, depth=self.depth, limit=DISTRIBUTED_ROM_WORDS)
        in_banks = self.depth > 1 and self.width > bank_bits(self.depth, self.width, storage)
        return WEIGHT_ROM_LATENCY + (self.relayed and in_banks)


class WeightRom(wiring.Component):
    """Constant weights, one ROM and one address counter for each group.

    A word can be taken in every cycle. Memory: ``M * K`` weights; none for a matrix
    that is one word, a constant.

    Parameters
    ----------
    config : WeightRomConfig

    Members
    -------
    o : Out(WeightSource)
        The words, always available; latency `config.latency`.
    """

    o: wiring.PureInterface

    def __init__(self, config: WeightRomConfig) -> None:
        self.config = config
        super().__init__({"o": Out(WeightSource(groups=config.groups, width=config.width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.d.comb += self.o.available.eq(1)
        take = delayed(m, self.o.take, config.latency - WEIGHT_ROM_LATENCY, name="take", control=True)
        for group, words in enumerate(config.words()):
            if config.depth == 1:
                m.d.comb += self.o.data[group].eq(Const(words[0], config.width))
                continue
            run = config.weights.shape[1] // config.simd
            rom = SequentialRom(words, config.width, config.storage, run=run, repeats=config.repeats)
            m.submodules[f"group_{group}"] = rom
            m.d.comb += [rom.take.eq(take), self.o.data[group].eq(rom.data)]
            later = Signal(name=f"take_{group + 1}")
            m.d.sync += later.eq(take)
            take = later
        return m


def bank_bits(depth: int, width: int, storage: Literal["block", "distributed"]) -> int:
    """Bits of a word that share an address counter: all of them, or as many as some eight block RAMs hold.

    An address that reaches 32 block RAMs takes 7.1 ns across an ECP5-85F. Counters of the same address stay apart in
    synthesis, copies of a register do not.
    """
    if storage == "distributed":
        return width
    # A multiple of 36 bits wastes no column of a block RAM of any shape.
    return 36 * max(1, _BANK_BLOCK_RAMS // memory_cost(depth, 36, distributed=0).block_rams)


class SequentialRom(wiring.Component):
    """A ROM whose words are taken in order, over and over.

    Parameters
    ----------
    words : list of int
        Contents.
    width : int
        Bits of a word.
    storage : {"block", "distributed", "auto"}
        Memory that holds them; `auto` keeps up to 16 words in look-up tables.
    run, repeats : int
        Each run of so many words is taken so often before the next one; it divides them.

    Members
    -------
    take : In(1)
        Goes on to the next word.
    data : Out(width)
        The word of `WEIGHT_ROM_LATENCY` cycles ago: the one that was taken then, or that still waited to be.
    """

    take: Signal
    data: Signal

    def __init__(self, words: list[int], width: int, storage: Storage, *, run: int = 1, repeats: int = 1) -> None:
        self.words = words
        self.run = run
        self.repeats = 1 if run == len(words) else repeats
        self.storage = resolve(storage, depth=len(words), limit=DISTRIBUTED_ROM_WORDS)
        super().__init__({"take": wiring.In(1), "data": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = len(self.data)
        bits = bank_bits(len(self.words), width, self.storage)
        banks = []
        for bank, low in enumerate(range(0, width, bits)):
            own = min(bits, width - low)
            words = [word >> low & (1 << own) - 1 for word in self.words]
            name = "words" if width <= bits else f"words_{bank}"
            address = self._address(m, bank)
            read = self._from_block_ram if self.storage == "block" else self._from_tables
            banks.append(read(m, name, words, own, address))
        m.d.comb += self.data.eq(Cat(banks))
        return m

    def _address(self, m: Module, bank: int) -> Signal:
        depth = len(self.words)
        address = Signal(range(depth), name=f"address_{bank}")
        with m.If(self.take):
            m.d.sync += address.eq(address + 1)
            with m.If(address == depth - 1):
                m.d.sync += address.eq(0)
        if self.repeats > 1:
            start = Signal.like(address, name=f"start_{bank}")
            word = cycle(m, f"word_{bank}", self.run, step=self.take)
            turn = cycle(m, f"turn_{bank}", self.repeats, step=self.take & word.is_last)
            with m.If(self.take & word.is_last):
                with m.If(turn.is_last):
                    m.d.sync += start.eq(Mux(address == depth - 1, 0, address + 1))
                with m.Else():
                    m.d.sync += address.eq(start)
        return address

    def _from_block_ram(self, m: Module, name: str, words: list[int], width: int, address: Signal) -> Signal:
        """The word, three cycles after its address: the memory, and two registers behind it.

        The first register fits into the block RAM (its own output register): no reset, no enable, and nothing between.
        So a ROM too deep for one block RAM is chosen from behind these registers, and words of a deep bank lie bit by
        bit in block RAMs as deep: synthesis would choose between shallower ones, in front of the register.
        """
        output = Signal(width, reset_less=True, name=f"{name}_output")
        depth, bits = bank_shape(len(words), width)
        if depth <= SHALLOW_WORDS:
            bits = width
        address_bits = (depth - 1).bit_length()
        found = []
        for part, start in enumerate(range(0, len(words), depth)):
            block_ram_output = Signal(width, reset_less=True, name=f"{name}_block_ram_output_{part}")
            found.append(block_ram_output)
            for low in range(0, width, bits):
                own = [word >> low & (1 << bits) - 1 for word in words[start : start + depth]]
                rom = memory.Memory(
                    shape=Shape(min(bits, width - low)), depth=len(own), init=own, attrs=rom_attributes("block")
                )
                m.submodules[name if len(own) == len(words) and bits >= width else f"{name}_{part}_{low}"] = rom
                read = rom.read_port()
                m.d.comb += read.addr.eq(address[:address_bits])
                m.d.sync += block_ram_output[low : low + bits].eq(read.data)
        chosen = delayed(m, address[address_bits:], 2, name=f"{name}_part") if len(found) > 1 else Const(0)
        m.d.sync += output.eq(Array(found)[chosen])
        return output

    def _from_tables(self, m: Module, name: str, words: list[int], width: int, address: Signal) -> Value:
        """The word, likewise; look-up tables answer at once, and the cycles are spent on the way to them."""
        m.submodules[name] = rom = memory.Memory(
            shape=Shape(width), depth=len(words), init=words, attrs=rom_attributes("distributed")
        )
        read = rom.read_port()
        m.d.comb += read.addr.eq(delayed(m, address, 2, name=f"{name}_address"))
        return read.data
