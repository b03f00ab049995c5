"""A design on disk: Verilog, memory images and the manifest that lists them."""

from __future__ import annotations

from pathlib import Path

from karui.hw.accelerator import Accelerator, AcceleratorTop
from karui.hw.emit import emit
from karui.hw.manifest import MANIFEST_NAME, Manifest

TOP = "accelerator"


def write_design(accelerator: Accelerator, folder: Path) -> Manifest:
    """Generate the RTL of an accelerator.

    The manifest is written last: a folder that has one is complete.

    Parameters
    ----------
    accelerator : Accelerator
        What to generate.
    folder : Path
        Where the files go; an older design there is replaced.
    """
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    verilog, *images = emit(AcceleratorTop(accelerator), folder, name=TOP)
    source, sink = accelerator.ports
    manifest = Manifest(
        name=accelerator.graph.name,
        top=TOP,
        sources=(verilog.name,),
        memories=tuple(image.name for image in images),
        input=source,
        output=sink,
        predicted=accelerator.predicted,
    )
    manifest.save(folder)
    return manifest
