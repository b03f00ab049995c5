"""A design on disk: Verilog, memory images and the manifest that lists them."""

from __future__ import annotations

from pathlib import Path

from karui.hw.compressed.sparse_entries import HuffmanEntriesConfig
from karui.hw.compressed.sparse_images import check_images, write_code_tables
from karui.hw.compressed.sparse_matrix_vector import SparseMatrixVectorConfig
from karui.hw.emit.accelerator import Accelerator, AcceleratorTop, module_name
from karui.hw.emit.manifest import MANIFEST_NAME, Manifest
from karui.hw.emit.verilog import emit

TOP = "accelerator"


def write_design(accelerator: Accelerator, folder: Path) -> Manifest:
    """Generate the RTL of an accelerator, with the tables of Huffman-coded weights, whose images are read back.

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
    for engine in accelerator.engines:
        config = engine.config
        if isinstance(config, SparseMatrixVectorConfig) and isinstance(config.entries, HuffmanEntriesConfig):
            name = f"{module_name(engine.name)}_entries"
            check_images(config.entries, folder, name)
            write_code_tables(config.entries, folder, name)
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
