"""The leading one of an integer, and the bits below it."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """Shifts an integer to the left until its leading one is the highest bit, a power of two a cycle.

    Latency `latency` cycles, throughput an integer a cycle.

    Parameters
    ----------
    width : int
        Bits of the integer, unsigned.
    index_bits : int
        Bits below the leading one that are wanted.
    least : int
        The lowest place that the leading one can have.
    """

    width: int
    index_bits: int
    least: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.least < self.width:
            raise ValueError(
                f"the leading one of {self.width} bits is in place 0 to {self.width - 1}, not {self.least}"
            )

    @property
    def steps(self) -> tuple[int, ...]:
        """Places by which each cycle shifts or not."""
        farthest = self.width - 1 - self.least
        return tuple(1 << step for step in reversed(range(farthest.bit_length())))

    @property
    def latency(self) -> int:
        """Cycles from the integer to its leading bits."""
        return len(self.steps)

    def build(self, m: Module, value: Value, *, name: str) -> tuple[Value, Value]:
        """Add the pipeline to a module.

        Parameters
        ----------
        m : Module
            Where it goes.
        value : Value
            From a register; where it is 0 or has a lower leading one, the result means nothing.
        name : str
            Stem of the registers' names.

        Returns
        -------
        places, index : Value
            Places by which the integer was shifted, as many bits as there are steps, and the bits below the leading
            one, `index_bits` of them; both `latency` cycles later.
        """
        current: Value = value
        shifted: list[Value] = []
        for number, step in enumerate(self.steps):
            # The last steps leave only what is asked for.
            kept = Signal(self.width, name=f"{name}_{step}", reset_less=True)
            moves = Signal(name=f"{name}_moves_{step}")
            count = Signal(number + 1, name=f"{name}_places_{step}", reset_less=True)
            m.d.comb += moves.eq(current[self.width - step :] == 0)
            m.d.sync += [
                kept.eq(Mux(moves, Cat(Const(0, step), current[: self.width - step]), current)),
                count.eq(Cat(moves, *shifted)),
            ]
            current, shifted = kept, [count]
        below = Cat(Const(0, self.index_bits), current[: self.width - 1])[-self.index_bits :]
        return Cat(*shifted), below if self.index_bits else Const(0, 0)
