"""Resources layer by layer and against the device, as a report shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from karui.flows.report.schema import Layer, Synthesis
from karui.hw.emit.accelerator import module_name

# Look-up tables that a carry cell and a distributed RAM occupy.
CARRY_LUTS = {"lut4": 2, "lut6": 0}
LUTRAM_LUTS = {"lut4": 6, "lut6": 1}


@dataclass(frozen=True, kw_only=True)
class AreaRow:
    """Cells of one module; `estimate` is what the cost model expected, None for modules it does not cover."""

    name: str
    logic: float
    carry: float
    memory: float
    ff: float
    bram: float
    dsp: float
    estimate: float | None = None

    @property
    def luts(self) -> float:
        """Look-up tables in all."""
        return self.logic + self.carry + self.memory


@dataclass(frozen=True, kw_only=True)
class Meter:
    """A total against what the device offers."""

    name: str
    used: float
    available: int
    note: str

    @property
    def share(self) -> float:
        """Fraction used."""
        return self.used / self.available if self.available else 0.0


def area_rows(synthesis: Synthesis, layers: Sequence[Layer]) -> list[AreaRow]:
    """Modules in the order of the stream: input, each layer with what stands before and behind it, output, the rest."""
    estimates = {module_name(layer["name"]): layer["estimate"]["luts"] for layer in layers}
    order = ["axi_input", "axi_input_fork"]
    for layer in layers:
        name = module_name(layer["name"])
        order += [
            f"{name}_in_{port}_{kind}" for port in range(len(layer.get("reads", []))) for kind in ("width", "fifo")
        ]
        order += [name, f"{name}_fork", f"{name}_width"]
    order += ["axi_output", "top"]
    names = [name for name in order if name in synthesis["by_module"]]
    names += [name for name in synthesis["by_module"] if name not in order]
    return [_row(name, synthesis["by_module"][name], lut_key(synthesis), estimates.get(name)) for name in names]


def _row(name: str, cells: dict[str, float], lut: str, estimate: float | None) -> AreaRow:
    return AreaRow(
        name=name,
        logic=cells[lut],
        carry=CARRY_LUTS[lut] * cells["carry"],
        memory=LUTRAM_LUTS[lut] * cells["lutram"],
        ff=cells["ff"],
        bram=cells["bram"],
        dsp=cells["dsp"],
        estimate=estimate,
    )


def lut_key(synthesis: Synthesis) -> str:
    """Key of the look-up tables: ``lut4`` or ``lut6``."""
    return "lut6" if "lut6" in synthesis else "lut4"


def meters(synthesis: Synthesis) -> list[Meter]:
    """Totals against the device's capacities."""
    lut = lut_key(synthesis)
    placed = synthesis["comb"]
    total = {kind: float(synthesis[kind]) for kind in (lut, "carry", "lutram")}  # type: ignore[literal-required]
    mapped = total[lut] + CARRY_LUTS[lut] * total["carry"] + LUTRAM_LUTS[lut] * total["lutram"]
    capacity = synthesis["capacity"]
    if placed is not None:
        note = "placed, the pin shell included" if synthesis["shell"] else "placed"
    else:
        note = "mapped, carries and memory included" if lut == "lut4" else "mapped"
    return [
        Meter(name="Look-up tables", used=mapped if placed is None else placed, available=capacity["luts"], note=note),
        Meter(name="Flip-flops", used=synthesis["ff"], available=capacity["ffs"], note="mapped"),
        Meter(name="Block RAMs", used=synthesis["bram"], available=capacity["block_rams"], note="mapped"),
        Meter(name="Multipliers", used=synthesis["dsp"], available=capacity["dsps"], note="mapped"),
    ]
