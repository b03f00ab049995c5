"""Huffman coding of whole arrays beside dahuffman, symbol for symbol the same work."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, at_least, at_most, equal
from karui.sw.coding.canonical_code import CanonicalCode
from karui.sw.coding.huffman import decode, encode

SYMBOLS = 1_000_000
SEED = 1
TIMES_FASTER = 20
SECONDS = 0.5
REPEATS = 10
THEIR_REPEATS = 3

Result = TypeVar("Result")


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Code streams as pruned and shared weights give them: the codes, the gaps, and bytes that are all as frequent."""
    # A development dependency: nothing but this comparison needs it.
    from dahuffman import HuffmanCodec

    random = np.random.default_rng(SEED)
    checks: list[Check] = []
    details: dict[str, Any] = {"symbols": SYMBOLS}
    for name, symbols in _streams(random).items():
        run.progress(f"{name}: karui")
        code = CanonicalCode.from_symbols(symbols)
        seconds, theirs = {}, {}
        stream, seconds["encode"] = _timed(partial(encode, symbols, code), REPEATS)
        decoded, seconds["decode"] = _timed(partial(decode, stream, code, SYMBOLS), REPEATS)
        run.progress(f"{name}: dahuffman")
        listed = symbols.tolist()
        codec = HuffmanCodec.from_data(listed)
        their_data, theirs["encode"] = _timed(partial(codec.encode, listed), THEIR_REPEATS)
        their_symbols, theirs["decode"] = _timed(partial(codec.decode, their_data), THEIR_REPEATS)
        if their_symbols != listed:
            raise RuntimeError(f"dahuffman does not give the {name} back")
        checks.append(equal(f"{name}: symbols that come back wrong", int(np.count_nonzero(decoded != symbols)), 0))
        for direction in ("encode", "decode"):
            checks.append(at_most(f"{name}: {direction}, s", round(seconds[direction], 4), SECONDS))
            faster = round(theirs[direction] / seconds[direction], 1)
            checks.append(at_least(f"{name}: {direction}, times as fast as dahuffman", faster, TIMES_FASTER))
        details[name] = {
            "bits_a_symbol": round(stream.bits / SYMBOLS, 3),
            "dahuffman_bits_a_symbol": round(8 * len(their_data) / SYMBOLS, 3),
            "longest_word": code.max_length,
            "seconds": {direction: round(value, 4) for direction, value in seconds.items()},
            "dahuffman_seconds": {direction: round(value, 3) for direction, value in theirs.items()},
        }
    return BenchmarkResult(checks=tuple(checks), details=details, seed=SEED)


def _streams(random: np.random.Generator) -> dict[str, npt.NDArray[np.int64]]:
    clustered = np.clip(np.rint(random.normal(0, 4, SYMBOLS)), -16, 15).astype(np.int64) + 16
    return {
        "codes": clustered,
        "gaps": np.minimum(random.geometric(0.08, SYMBOLS) - 1, 31),
        "bytes": random.integers(0, 256, SYMBOLS),
    }


def _timed(call: Callable[[], Result], repeats: int) -> tuple[Result, float]:
    """What a call returns, and its best processor time, which other work on the machine hardly changes."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        result = call()
        best = min(best, time.process_time() - started)
    return result, best


CODING_SPEED = Benchmark(
    name="coding-speed",
    description="Huffman coding of a million symbols (weight codes, gaps, bytes) beside dahuffman",
    target=f"encode and decode in <= {SECONDS:g} s and >= {TIMES_FASTER} times as fast, every symbol back",
    minutes=1,
    measure=measure,
)
