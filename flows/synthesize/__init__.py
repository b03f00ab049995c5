"""Yosys and nextpnr: from a folder of RTL to area, timing and a bitstream."""
