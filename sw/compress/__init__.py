"""Compression of trained networks: pruning, sharing by clusters, coding, and what each step leaves."""
