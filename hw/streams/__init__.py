"""Streams: valid and ready, what splits, widens and holds them back, and the accelerator's two ends."""
