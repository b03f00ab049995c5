"""The vectors of a rank-R tensor's columns: products of two factors' rows, for every input and every place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Shape, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from karui.hw.arithmetic.wide_multiply import WideMultiply
from karui.hw.memory.memory_style import DISTRIBUTED_ROM_WORDS, resolve, rom_attributes
from karui.hw.memory.resources import Resources, memory_cost
from karui.hw.streams.counters import cycle, level
from karui.hw.streams.elementwise import signed_range
from karui.hw.streams.stream import ElasticOutput, ElasticOutputConfig, delayed, lanes_of
from karui.hw.streams.timing import require_divisor
from karui.sw.numerics import NumberFormat, format_for_range, pack, signed, to_integers

_READ_LATENCY = 2
"""Cycles from an address to its word: the memory and a register."""
START_LATENCY = 1
"""Cycles from a start to the first step."""
STARTS = 4
"""Frames that may be asked for ahead."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OuterColumnsConfig:
    """Parameters of `OuterColumns`.

    Parameters
    ----------
    v : ndarray of int64, shape (inputs, R)
    t : ndarray of int64, shape (places, R)
    lanes : int
        Elements a beat; divides R.
    endless : bool
        Whether map follows map without being asked for.
    """

    v: npt.NDArray[np.int64]
    t: npt.NDArray[np.int64]
    lanes: int
    endless: bool = False

    def __post_init__(self) -> None:
        require_divisor("lanes of outer columns", self.lanes, self.v.shape[1], "terms")

    @property
    def element(self) -> NumberFormat:
        """Format of a product."""
        products = np.einsum("ir,kr->ikr", self.v, self.t)
        return format_for_range(min(-1, int(products.min())), int(products.max()))

    @property
    def folds(self) -> int:
        """Beats of a vector."""
        return int(self.v.shape[1]) // self.lanes

    @property
    def beats(self) -> int:
        """Beats of a map."""
        return len(self.v) * len(self.t) * self.folds

    @property
    def multiply(self) -> WideMultiply:
        """The multiplication of a lane."""
        bits = (signed_range(int(values.min()), int(values.max())).width for values in (self.v, self.t))
        left, right = bits
        return WideMultiply(left=left, right=right)

    @property
    def latency(self) -> int:
        """Cycles from a step to its products."""
        return _READ_LATENCY + self.multiply.latency

    @property
    def cost(self) -> Resources:
        """Cells, estimated."""
        total = Resources(luts=50 + 3 * self.lanes * self.element.bits, dsps=self.lanes * self.multiply.multipliers)
        for values, bits in ((self.v, self.multiply.left), (self.t, self.multiply.right)):
            total += memory_cost(values.size // self.lanes, self.lanes * bits, distributed=DISTRIBUTED_ROM_WORDS)
        return total


class OuterColumns(wiring.Component):
    """Yields the vectors ``v[i] * t[k]`` for all i and, innermost, all k: a map for each start.

    Latency ``config.latency + 3`` cycles from a start, throughput a beat a cycle.

    Parameters
    ----------
    config : OuterColumnsConfig

    Members
    -------
    start : In(1)
        Asks for another map; not more than `STARTS` ahead. Without effect on maps that follow one another anyway.
    o : Out(stream)
        Products, `lanes` a beat.
    """

    start: Signal
    o: stream.Interface

    def __init__(self, config: OuterColumnsConfig) -> None:
        self.config = config
        super().__init__({"start": In(1), "o": Out(stream.Signature(lanes_of(config.element, config.lanes)))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        payload = lanes_of(config.element, config.lanes)
        m.submodules.output = output = ElasticOutput(
            ElasticOutputConfig(payload=payload, period=1, latency=config.latency)
        )
        wiring.connect(m, output.o, wiring.flipped(self.o))
        step, ends_vector, ends_input, ends_map = Signal(), Signal(), Signal(), Signal()
        fold = cycle(m, "fold", config.folds, step=step)
        place = cycle(m, "place", len(config.t), step=ends_vector)
        row = cycle(m, "row", len(config.v), step=ends_input)
        m.d.comb += [
            ends_vector.eq(step & fold.is_last),
            ends_input.eq(ends_vector & place.is_last),
            ends_map.eq(ends_input & row.is_last),
            output.reserve.eq(step),
            output.i.valid.eq(delayed(m, step, config.latency, name="valid", control=True)),
        ]
        if config.endless:
            m.d.comb += step.eq(output.credit)
        else:
            m.d.comb += step.eq(output.credit & ~level(m, "wanted", STARTS, up=self.start, down=ends_map).empty)
        left = self._factor(m, "v", config.v, config.multiply.left, row.number, fold.number)
        right = self._factor(m, "t", config.t, config.multiply.right, place.number, fold.number)
        for lane in range(config.lanes):
            product = config.multiply.build(m, left[lane], right[lane], name=f"product_{lane}")
            m.d.comb += output.i.payload[lane].eq(product)
        return m

    def _factor(
        self, m: Module, name: str, values: npt.NDArray[np.int64], bits: int, row: Signal, fold: Signal
    ) -> list[Value]:
        """A factor's elements, `_READ_LATENCY` cycles after their row and fold; rows begin at powers of two."""
        config = self.config
        places = 1 << (config.folds - 1).bit_length()
        padded = np.zeros((len(values), places, config.lanes), dtype=np.int64)
        padded[:, : config.folds] = values.reshape(len(values), config.folds, config.lanes)
        words = to_integers(pack(padded.reshape(-1, config.lanes), signed(bits)))
        storage = resolve("auto", depth=len(words), limit=DISTRIBUTED_ROM_WORDS)
        m.submodules[name] = rom = memory.Memory(
            shape=Shape(config.lanes * bits), depth=len(words), init=words, attrs=rom_attributes(storage)
        )
        read = rom.read_port()
        m.d.comb += read.addr.eq(row * places + fold)
        word = delayed(m, read.data, _READ_LATENCY - 1, name=f"{name}_word")
        return [word[lane * bits : (lane + 1) * bits].as_signed() for lane in range(config.lanes)]
