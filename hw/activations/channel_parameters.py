"""Constants of the channels of a beat: one each, or one for all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Const, Module, Signal, Value

from karui.hw.memory.cyclic_rom import CyclicRom, CyclicRomConfig
from karui.hw.streams.elementwise import ElementwiseConfig
from karui.hw.streams.stream import element_shape, lanes_of
from karui.sw.numerics import NumberFormat, pack, to_integers

Parameters = npt.NDArray[np.int64]


def check_channels(channels: int, **parameters: Parameters) -> None:
    """Check that there is a value for each channel, or one for all.

    Raises
    ------
    ValueError
        If there is another number of them; the message has the parameter's name.
    """
    for name, values in parameters.items():
        if values.shape not in ((1,), (channels,)):
            raise ValueError(f"{name} must be of shape (1,) or ({channels},), not {values.shape}")


def lane_slice(values: Parameters, lanes: int, first: int, count: int) -> Parameters:
    """The values for `count` lanes of beats of `lanes` lanes, from lane `first` on."""
    if len(values) == 1:
        return values
    return values.reshape(-1, lanes)[:, first : first + count].reshape(-1)


def current_parameters(
    m: Module,
    name: str,
    values: Parameters,
    number_format: NumberFormat,
    config: ElementwiseConfig,
    *,
    used: Value,
) -> list[Value]:
    """Add a memory of the values to a module.

    Parameters
    ----------
    m : Module
        Where it goes.
    name : str
        Its name.
    values : ndarray of int64, shape (channels,) or (1,)
        What it holds; equal ones take no memory.
    number_format : NumberFormat
        Format of a value.
    config : ElementwiseConfig
        Whose channels, lanes and period they are.
    used : Value
        Steps to the next beat's values.

    Returns
    -------
    list of Value
        The current beat's, lane by lane.
    """
    if np.all(values == values[0]):
        return [Const(int(values[0]), element_shape(number_format))] * config.lanes
    words = np.broadcast_to(values, (config.channels,)).reshape(-1, config.lanes)
    m.submodules[name] = rom = CyclicRom(
        CyclicRomConfig(
            words=tuple(to_integers(pack(words, number_format))),
            width=config.lanes * number_format.bits,
            period=config.period,
        )
    )
    current = Signal(lanes_of(number_format, config.lanes), name=name)
    m.d.comb += [rom.advance.eq(used), current.as_value().eq(rom.word)]
    return [current[lane] for lane in range(config.lanes)]
