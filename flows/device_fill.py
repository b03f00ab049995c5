"""How much of a device a fitted design may take."""

from __future__ import annotations

from dataclasses import dataclass, fields

from karui.flows.synthesize.targets import Device
from karui.hw.memory.resources import Resources

# What fills a device is logic as it is placed: the cost model leaves out width converters and FIFOs between engines,
# and placement adds four look-up tables to each carry chain. A MobileNet of 45,968 estimated took 58,198.
PLACED_PER_ESTIMATED = 1.27


@dataclass(frozen=True, kw_only=True)
class DeviceFill:
    """Shares of a device that a design fitted into it may fill: routing grows hard above the defaults.

    Parameters
    ----------
    logic : float
        Of the look-up tables.
    memory : float
        Of the block RAMs.
    multipliers : float
        Of the multipliers. They stand in a few rows: with nearly all of them taken, an engine's own lie up to 6 ns
        from its adders (ECP5-85F).

    Raises
    ------
    ValueError
        If a share is not above 0 and at most 1.
    """

    logic: float = 0.60
    memory: float = 0.85
    multipliers: float = 0.60

    def __post_init__(self) -> None:
        for field in fields(self):
            share = getattr(self, field.name)
            if not 0 < share <= 1:
                raise ValueError(f"{field.name} of a device's fill must be above 0 and at most 1, not {share:g}")

    def budget(self, device: Device) -> Resources:
        """What a design may take of a device, as the cost model counts it."""
        return Resources(
            luts=int(self.logic / PLACED_PER_ESTIMATED * device.luts),
            block_rams=int(self.memory * device.block_rams),
            dsps=int(self.multipliers * device.dsps),
        )
