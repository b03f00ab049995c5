"""Emission: a component becomes Verilog with its memory images beside it."""

import gc
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Value, ValueCastable
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring

from karui.hw.emit.rtlil_merge import merge_identical_modules
from karui.hw.emit.yosys import run_yosys
from karui.sw.numerics import memory_image

_LANE_NAME = re.compile(r"\\[^\s\[\]]+(?:\[\d+\]\S*)+")
# An escaped name ends with a space.
_READ_IMAGE = re.compile(r'\$readmemb\("([^"]+)", (\\\S+ |\S+)\)')


def emit(component: wiring.Component, folder: Path, *, name: str = "accelerator") -> list[Path]:
    """Write a component as ``<name>.v``, and the contents of its memories as ``.mem`` files.

    Identical submodules are emitted once. The same component gives the same bytes.

    Parameters
    ----------
    component
        What to emit. Its ports become flat: ``clk``, ``rst`` and the signature's members joined by underscores
        (``s_axis.tdata`` is ``s_axis_tdata``).
    folder
        Where the files go. An older emission there is removed first, and the Verilog is put there last: a folder with
        ``<name>.v`` in it is complete.
    name
        The top module.

    Returns
    -------
    list of Path
        The Verilog, then the images: one hexadecimal word a line, word 0 first. An image is named after the place of
        its memory in the hierarchy (``layer0_rom.mem``); the Verilog reads it by that bare name, so simulators have to
        run in ``folder`` or a folder with copies of the images.

    Raises
    ------
    ValueError
        When two members of the signature flatten to one port name.
    """
    with _no_garbage_collection():
        text = rtlil.convert(component, name=name, platform=None, ports=_flat_ports(component), emit_src=False)
    # Amaranth calls a lane's view `payload[0]`; Yosys' mapper takes that for bit 0 of `payload` and fails.
    design = merge_identical_modules(_LANE_NAME.sub(lambda found: found[0].replace("[", ".").replace("]", ""), text))
    folder.mkdir(parents=True, exist_ok=True)
    for old in [folder / f"{name}.v", *sorted(folder.glob("*.mem"))]:
        old.unlink(missing_ok=True)
    work = folder / ".emit"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "merged.il").write_text(design.text)
    run_yosys(
        [
            "read_rtlil merged.il",
            "proc -nomux -norom",
            "memory_collect",
            "attrmap -remove generator",
            "attrmap -modattr -remove generator",
            "write_verilog -norename -extmem yosys.v",
        ],
        folder=work,
    )
    verilog, images = _name_images((work / "yosys.v").read_text(), prefix=f"{name}_")
    files = []
    for written, image in images.items():
        words = (work / written).read_text().split()
        (work / image).write_text(memory_image([int(word, 2) for word in words], len(words[0])))
        files.append(Path(shutil.move(work / image, folder / image)))
    (work / f"{name}.v").write_text(verilog)
    top = Path(shutil.move(work / f"{name}.v", folder / f"{name}.v"))
    shutil.rmtree(work)
    return [top, *files]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Amaranth's netlist is millions of objects, all alive: visiting them again and again takes 2/3 of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _flat_ports(component: wiring.Component) -> dict[str, tuple[Value, PortDirection]]:
    ports: dict[str, tuple[Value, PortDirection]] = {}
    for path, member, value in component.signature.flatten(component):
        port = "_".join(map(str, path))
        if port in ports:
            raise ValueError(f"two members of {type(component).__name__} are both named {port!r} as ports; rename one")
        signal = value.as_value() if isinstance(value, ValueCastable) else value
        ports[port] = (signal, PortDirection.Input if member.flow == wiring.In else PortDirection.Output)
    return ports


def _name_images(verilog: str, *, prefix: str) -> tuple[str, dict[str, str]]:
    """Give the images Yosys numbered the names of their memories; returns the Verilog and old name -> new name."""
    memories: list[tuple[str, str, str]] = []
    module = ""
    for line in verilog.splitlines():
        if line.startswith("module "):
            module = line.removeprefix("module ").split("(")[0].strip()
        elif found := _READ_IMAGE.search(line):
            memories.append((module, found[1], found[2].strip(" \\")))
    modules = [module for module, _, _ in memories]
    images: dict[str, str] = {}
    for module, written, memory in memories:
        place = (module + "_").removeprefix(prefix).rstrip("_")
        alone = place and modules.count(module) == 1
        stem = place if alone else f"{place}_{memory}".lstrip("_")
        images[written] = re.sub(r"\W", "_", stem) + ".mem"
    assert len(set(images.values())) == len(images), f"image names collide: {sorted(images.values())}"
    named = _READ_IMAGE.sub(lambda found: f'$readmemh("{images[found[1]]}", {found[2]})', verilog)
    return named, images
