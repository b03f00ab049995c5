"""Yosys and nextpnr: from a folder of RTL to area, timing and a bitstream."""

from karui.flows.synthesize.flow import TimingMissed, synthesize
from karui.flows.synthesize.nextpnr import PlaceAndRouteFailed
from karui.flows.synthesize.resources import CellCount, DesignTooLarge
from karui.flows.synthesize.result import CriticalPath, SeedResult, SynthesisResult
from karui.flows.synthesize.targets import DEVICES, Device, find_device

__all__ = [
    "DEVICES",
    "CellCount",
    "CriticalPath",
    "DesignTooLarge",
    "Device",
    "PlaceAndRouteFailed",
    "SeedResult",
    "SynthesisResult",
    "TimingMissed",
    "find_device",
    "synthesize",
]
