"""Flows: recipes, builds, synthesis, reports and the command line.

`compile_model` takes a network of one's own; `karui build RECIPE` the ones that ship.
"""

from karui.flows.design import Design, compile_model

__all__ = ["Design", "compile_model"]
