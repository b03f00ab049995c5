"""Lowering: from networks of this and other toolkits to the integer graph."""
