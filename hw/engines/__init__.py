"""Engines: an operation of the graph each, stream in, stream out."""
