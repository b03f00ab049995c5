"""Simulation: reusable benches and runners, no test cases."""
