"""Devices a design can be synthesized for, and what each offers."""

import difflib
from dataclasses import dataclass, replace
from typing import Literal

Family = Literal["ecp5", "ice40", "xc7"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """An FPGA.

    Parameters
    ----------
    name : str
        What users type.
    family : {"ecp5", "ice40", "xc7"}
        Decides the synthesis script. Only ECP5 and iCE40 are placed and routed; xc7 gives area alone.
    size : str
        The die as nextpnr names it (``25k``, ``hx8k``); of xc7 the part.
    package : str
        The package as nextpnr names it.
    speed : int or None
        Speed grade; None where the place-and-route tool knows one only.
    luts : int
        Look-up tables: ECP5 TRELLIS_COMB and iCE40 logic cells of four inputs, xc7 of six.
    ffs : int
        Flip-flops.
    block_rams : int
        Block memories: ECP5 18 Kibit, iCE40 4 Kibit, xc7 36 Kibit.
    dsps : int
        Multipliers: ECP5 18 x 18, iCE40 16 x 16, xc7 DSP48E1.
    pins : int
        User pins of the package.
    """

    name: str
    family: Family
    size: str
    package: str
    speed: int | None
    luts: int
    ffs: int
    block_rams: int
    dsps: int
    pins: int

    def __post_init__(self) -> None:
        for resource in ("luts", "ffs", "block_rams", "dsps", "pins"):
            if getattr(self, resource) < 0:
                raise ValueError(f"device {self.name!r} cannot have {getattr(self, resource)} {resource}")

    @property
    def lut_inputs(self) -> Literal[4, 6]:
        """Inputs of a look-up table."""
        return 6 if self.family == "xc7" else 4

    @property
    def routed(self) -> bool:
        """Whether there is a place-and-route tool for the device."""
        return self.family != "xc7"


_ECP5 = (
    Device(name="ecp5-25f", family="ecp5", size="25k", package="CABGA381", speed=6,
           luts=24288, ffs=24288, block_rams=56, dsps=28, pins=197),
    Device(name="ecp5-45f", family="ecp5", size="45k", package="CABGA381", speed=6,
           luts=43848, ffs=43848, block_rams=108, dsps=72, pins=203),
    Device(name="ecp5-85f", family="ecp5", size="85k", package="CABGA381", speed=6,
           luts=83640, ffs=83640, block_rams=208, dsps=156, pins=205),
)  # fmt: skip
_OTHERS = (
    Device(name="ice40-hx8k", family="ice40", size="hx8k", package="ct256", speed=None,
           luts=7680, ffs=7680, block_rams=32, dsps=0, pins=206),
    Device(name="ice40-up5k", family="ice40", size="up5k", package="sg48", speed=None,
           luts=5280, ffs=5280, block_rams=30, dsps=8, pins=39),
    Device(name="xc7z020", family="xc7", size="xc7z020", package="clg400", speed=None,
           luts=53200, ffs=106400, block_rams=140, dsps=220, pins=125),
    Device(name="xc7z045", family="xc7", size="xc7z045", package="ffg900", speed=None,
           luts=218600, ffs=437200, block_rams=545, dsps=900, pins=362),
    Device(name="xc7vx690t", family="xc7", size="xc7vx690t", package="ffg1761", speed=None,
           luts=433200, ffs=866400, block_rams=1470, dsps=3600, pins=850),
)  # fmt: skip

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        *(replace(device, name=f"{device.name}-{speed}", speed=speed) for device in _ECP5 for speed in (6, 7, 8)),
        *_OTHERS,
    )
}
"""All devices by name. ECP5 names end in the speed grade: 6 is the slowest and most common, 8 the fastest."""


def find_device(name: str) -> Device:
    """Look a device up by its name; an ECP5 without a speed grade is of grade 6.

    Raises
    ------
    ValueError
        If there is no such device; names the nearest.
    """
    device = DEVICES.get(name) or DEVICES.get(f"{name}-6")
    if device is None:
        nearest = difflib.get_close_matches(name, DEVICES, n=1, cutoff=0.0)
        raise ValueError(f"unknown device {name!r}; did you mean {nearest[0]!r}? known: {', '.join(DEVICES)}")
    return device
