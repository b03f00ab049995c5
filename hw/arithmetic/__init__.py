"""Arithmetic in pipelines: population counts, dot products, adder trees."""
