"""Flows: recipes, builds, synthesis, reports and the command line."""
