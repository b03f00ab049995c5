"""Memory images of Huffman-coded weights, held against the weights, and their code tables as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from karui.hw.compressed.huffman_decoder import HuffmanDecoderConfig
from karui.hw.compressed.sparse_entries import HuffmanEntriesConfig
from karui.hw.compressed.sparse_segments import SLOTS
from karui.sw.coding.huffman import BitString, StreamError, decode
from karui.sw.numerics import pack_bits, read_memory_image


class ImageError(ValueError):
    """Memory images do not hold the weights that they are said to hold."""


def write_code_tables(config: HuffmanEntriesConfig, folder: Path, name: str) -> list[Path]:
    """Write ``<name>_gaps_code.txt`` and ``<name>_codes_code.txt``: words of the code, and where each stream begins."""
    paths = []
    for kind, decoder in (("gaps", config.gaps), ("codes", config.codes)):
        path = folder / f"{name}_{kind}_code.txt"
        tables = (f"processing element {lane}\n\n{image.table()}" for lane, image in enumerate(decoder.images))
        path.write_text("\n".join(tables))
        paths.append(path)
    return paths


def check_images(config: HuffmanEntriesConfig, folder: Path, name: str) -> None:
    """Decode the streams that the RTL reads, and compare the matrix that comes out with the weights; its tables too.

    Parameters
    ----------
    config : HuffmanEntriesConfig
        The engine's entries.
    folder : Path
        With the images of the design.
    name : str
        Stem of the images' names: the engine's place in the hierarchy.

    Raises
    ------
    ImageError
        If a stream does not decode, or to other weights, or a table has other symbols than the code.
    """
    segments = config.segments
    gaps, codes = (
        _symbols(decoder, folder, f"{name}_{kind}")
        for kind, decoder in (("gaps", config.gaps), ("codes", config.codes))
    )
    found = np.zeros((segments.lanes, segments.weights.size // segments.lanes), dtype=np.int64)
    for lane in range(segments.lanes):
        of_lane = codes[lane :: segments.lanes].reshape(-1)
        used = np.flatnonzero(of_lane)
        positions = np.cumsum(gaps[lane :: segments.lanes].reshape(-1) + 1)[used] - 1
        if used.size and (positions[-1] >= found.shape[1] or of_lane.max() > len(segments.book)):
            raise ImageError(f"the images of {name} in {folder} reach beyond the weights: generate the design again")
        found[lane, positions] = segments.book[of_lane[used] - 1]
    rows, columns = segments.weights.shape
    matrix = found.reshape(segments.lanes, -1, columns).transpose(1, 0, 2).reshape(rows, columns)
    if not np.array_equal(matrix, segments.weights):
        raise ImageError(
            f"the images of {name} in {folder} hold other weights in {np.count_nonzero(matrix != segments.weights)} of "
            f"{matrix.size} places: generate the design again"
        )


def _symbols(decoder: HuffmanDecoderConfig, folder: Path, name: str) -> npt.NDArray[np.int64]:
    """Symbols of the streams in their images, shape (lanes, slots, symbols), of which the tables know the same."""
    tables = range(0, decoder.lanes, 2)
    for first in tables:
        file = f"{name}.mem" if len(tables) == 1 else f"{name}_symbols_{first}.mem"
        if tuple(read_memory_image(folder / file)) != decoder.images[0].symbols:
            raise ImageError(f"{file} in {folder} is not the symbols in the order of their words: generate it again")
    lanes = []
    for lane, image in enumerate(decoder.images):
        # Lanes with the same streams are one module, with the image of the first.
        first = next(index for index, other in enumerate(decoder.images) if other.words == image.words)
        words = np.array(read_memory_image(folder / f"{name}_lane_{first}.mem"), dtype=np.int64)
        places = np.arange(image.word_bits)[::-1]
        bits = (words[:, None] >> places & 1).astype(np.uint8).ravel()[: image.bits.bits]
        count = sum(decoder.counts)
        try:
            symbols = decode(BitString(data=pack_bits(bits), bits=bits.size), decoder.code, count)
        except StreamError as error:
            raise ImageError(f"{name}_lane_{lane}.mem does not decode ({error}): generate the design again") from error
        lanes.append(np.asarray(symbols, dtype=np.int64).reshape(SLOTS, -1))
    return np.stack(lanes)
