"""Memories: ROMs and the sources of weights, FIFOs, line and replay buffers."""
