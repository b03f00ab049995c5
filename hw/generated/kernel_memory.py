"""Weights that another component writes: the weight source of an engine whose kernels are generated."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Shape, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.memory.memory_style import DISTRIBUTED_RAM_WORDS, ram_attributes, resolve
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.memory.word_source import WeightSource
from karui.hw.streams.counters import Cycle, cycle, level
from karui.hw.streams.stream import delayed, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat

HALVES = 2
"""Matrices that are held: one is read while the next one is written."""
KERNEL_READ_LATENCY = 3
"""Cycles from a take to the word of group 0: the memory and the two registers behind it."""
WRITE_DELAY = 2
"""Cycles from the transfer of a matrix' last beat to the first cycle in which its words are available."""
_ENABLED_BITS = 9
"""Bits of a block RAM that are written together, of which a weight takes 8."""


@dataclass(frozen=True, kw_only=True)
class KernelMemoryConfig:
    """Parameters of a `KernelMemory`.

    Parameters
    ----------
    outputs, inputs, places : int
        The matrix has `outputs` rows of ``places * inputs`` weights.
    pe, simd, groups : int
        As of the engine that reads; simd divides the inputs.
    weight_format : NumberFormat
        Format of a weight.
    lanes : int
        Outputs of a written beat; divides the outputs of a group of the engine, or is a multiple and divides `pe`.
    reads : int
        How often the engine reads each matrix.

    Raises
    ------
    ValueError
        If a number does not divide another as said.
    """

    outputs: int
    inputs: int
    places: int
    pe: int
    simd: int
    groups: int
    weight_format: NumberFormat
    lanes: int
    reads: int

    def __post_init__(self) -> None:
        require_divisor("pe", self.pe, self.outputs, "outputs")
        require_divisor("simd", self.simd, self.inputs, "inputs")
        require_divisor("groups", self.groups, self.pe, "outputs of a word")
        require_divisor("lanes of a kernel memory", self.lanes, self.pe, "outputs of a word")
        shorter, longer = sorted((self.lanes, self.group_lanes))
        require_divisor("lanes of a kernel memory", shorter, longer, "outputs of a beat or a group")

    @property
    def group_lanes(self) -> int:
        """Outputs of a group."""
        return self.pe // self.groups

    @property
    def width(self) -> int:
        """Bits of a group's part of a word."""
        return self.group_lanes * self.simd * self.weight_format.bits

    @property
    def input_fold(self) -> int:
        """Words of a row."""
        return self.places * self.inputs // self.simd

    @property
    def words(self) -> int:
        """Words of a matrix."""
        return self.outputs // self.pe * self.input_fold

    @property
    def depth(self) -> int:
        """Words of the memory: the half is the highest bit of an address."""
        return HALVES << (self.words - 1).bit_length()

    @property
    def beats(self) -> int:
        """Beats that a matrix is written in."""
        return self.outputs * self.inputs * self.places // self.lanes

    @property
    def release_delay(self) -> int:
        """Cycles from the last take of a matrix to the cycle from which its half can be written anew."""
        return 1 + self.groups

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        bits = self.width // self.weight_format.bits * max(self.weight_format.bits, _ENABLED_BITS)
        group = memory_cost(self.depth, bits, distributed=DISTRIBUTED_RAM_WORDS)
        return Resources(luts=self.groups * (group.luts * 3 // 2 + 12) + 60, block_rams=self.groups * group.block_rams)


class KernelMemory(wiring.Component):
    """Holds two matrices, of which one is read again and again while the other is written.

    Weights come in the order (input, place, output), and are written one place of a word at a time; words leave in the
    order of the engine's loop, whose columns are in the order (place, input). Throughput a beat and a word a cycle.

    Parameters
    ----------
    config : KernelMemoryConfig

    Members
    -------
    i : In(stream)
        Weights, `lanes` outputs a beat; ready as long as a half is free.
    o : Out(WeightSource)
        The words of each matrix `reads` times; latency `KERNEL_READ_LATENCY`.
    """

    i: stream.Interface
    o: wiring.PureInterface

    def __init__(self, config: KernelMemoryConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(config.weight_format, config.lanes))),
                "o": Out(WeightSource(groups=config.groups, width=config.width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        transfer, written, released = Signal(), Signal(), Signal()
        m.d.comb += transfer.eq(self.i.valid & self.i.ready)
        address, part, column = self._place(m, transfer, written)
        freed = delayed(m, released, config.release_delay - 1, name="released", control=True)
        filled = delayed(m, written, WRITE_DELAY - 1, name="filled", control=True)
        m.d.comb += [
            self.i.ready.eq(~level(m, "taken", HALVES, up=written, down=freed).full),
            self.o.available.eq(~level(m, "filled", HALVES, up=filled, down=released).empty),
        ]

        word = cycle(m, "word", config.words, step=self.o.take)
        read = cycle(m, "read", config.reads, step=self.o.take & word.is_last)
        half = cycle(m, "half", HALVES, step=released)
        m.d.comb += released.eq(self.o.take & word.is_last & read.is_last)
        read_address = Signal((config.depth - 1).bit_length())
        m.d.comb += read_address.eq(Cat(word.number[: len(read_address) - 1], half.number))

        beat = delayed(m, self.i.payload.as_value(), 1, name="beat")
        write_address = delayed(m, address, 1, name="write_address")
        storage = resolve("auto", depth=config.depth, limit=DISTRIBUTED_RAM_WORDS)
        unit = min(config.lanes, config.group_lanes)
        bits = config.weight_format.bits
        for group in range(config.groups):
            # Weights of an input lie side by side, so that a beat's are written together.
            m.submodules[f"group_{group}"] = words = memory.Memory(
                shape=Shape(config.width), depth=config.depth, init=[], attrs=ram_attributes(storage)
            )
            write, output = words.write_port(granularity=unit * bits), words.read_port()
            enables, source = self._enables(group, part, column)
            enable = Signal(len(write.en), name=f"enable_{group}")
            m.d.sync += enable.eq(Cat(transfer & one for one in enables))
            m.d.comb += [
                write.en.eq(enable),
                write.addr.eq(write_address),
                write.data.eq(beat[source * bits : (source + unit) * bits].replicate(len(enables))),
                output.addr.eq(delayed(m, read_address, group, name=f"read_address_{group}")),
            ]
            by_input = delayed(m, output.data, KERNEL_READ_LATENCY - 1, name=f"word_{group}")
            m.d.comb += self.o.data[group].eq(
                Cat(
                    by_input[(lane + simd * config.group_lanes) * bits :][:bits]
                    for lane in range(config.group_lanes)
                    for simd in range(config.simd)
                )
            )
        return m

    def _place(self, m: Module, transfer: Signal, written: Signal) -> tuple[Value, Cycle, Cycle]:
        """Where a beat goes: its word's address, its part of the word's outputs, and its input in the word."""
        config = self.config
        ends_word, ends_output, ends_place, ends_input = Signal(), Signal(), Signal(), Signal()
        part = cycle(m, "part", config.pe // config.lanes, step=transfer)
        fold = cycle(m, "fold", config.outputs // config.pe, step=ends_word)
        place = cycle(m, "place", config.places, step=ends_output)
        column = cycle(m, "column", config.simd, step=ends_place)
        block = cycle(m, "block", config.inputs // config.simd, step=ends_input)
        half = cycle(m, "write_half", HALVES, step=written)
        bits = (config.depth - 1).bit_length() - 1
        # Of the word, of the place's first word, of the block's first word.
        address, of_place = Signal(bits), Signal(bits)
        following = Signal(bits)
        m.d.comb += [
            ends_word.eq(transfer & part.is_last),
            ends_output.eq(ends_word & fold.is_last),
            ends_place.eq(ends_output & place.is_last),
            ends_input.eq(ends_place & column.is_last),
            written.eq(ends_input & block.is_last),
            following.eq(of_place + config.inputs // config.simd),
        ]
        with m.If(ends_word):
            m.d.sync += address.eq(address + config.input_fold)
        with m.If(ends_output):
            m.d.sync += [address.eq(following), of_place.eq(following)]
        with m.If(ends_place):
            m.d.sync += [address.eq(block.number), of_place.eq(block.number)]
        with m.If(ends_input):
            m.d.sync += [address.eq(block.number + 1), of_place.eq(block.number + 1)]
        with m.If(written):
            m.d.sync += [address.eq(0), of_place.eq(0)]
        return Cat(address, half.number), part, column

    def _enables(self, group: int, part: Cycle, column: Cycle) -> tuple[list[Value], int]:
        """Which of a group's weights a beat is, for each input and run of outputs, and its first lane of the group."""
        config = self.config
        runs = max(1, config.group_lanes // config.lanes)
        spans = max(1, config.lanes // config.group_lanes)
        enables = [
            (column.number == simd) & (part.number == (group // spans if spans > 1 else group * runs + run))
            for simd in range(config.simd)
            for run in range(runs)
        ]
        return enables, group % spans * config.group_lanes
