"""Output words from anywhere against the golden model."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from karui.sw.golden import evaluate
from karui.sw.ir import Graph, load_graph

SHOWN = 10


class ComparisonFailed(RuntimeError):
    """Output words differ from the golden model's; the message has the first differences."""


def compare_files(graph: Path, inputs: Path, outputs: Path) -> str:
    """Compare output words with what the golden model makes of the inputs.

    Parameters
    ----------
    graph : Path
        Folder with ``graph.json`` and ``weights.npz``, or a build folder.
    inputs, outputs : Path
        ``.npy``, or ``.npz`` with an array ``inputs`` or ``outputs``. Frames along the first axis, in the graph's
        shape or flat; bipolar words as -1 and +1.

    Returns
    -------
    str
        One line that says what agreed.

    Raises
    ------
    ComparisonFailed
        If a word differs.
    GraphError, ValueError
        If a file is missing, damaged or of another shape.
    """
    folder = graph / "design" if (graph / "design" / "graph.json").is_file() else graph
    network = load_graph(folder)
    frames = load_frames(inputs, "inputs", network.inputs[network.input_name].shape)
    words = load_frames(outputs, "outputs", network.tensors[network.output_name].shape)
    if len(frames) != len(words):
        raise ValueError(f"{inputs} has {len(frames)} frames, {outputs} has {len(words)}: they must be as many")
    return _compare(network, frames, words)


def _compare(network: Graph, frames: npt.NDArray[Any], words: npt.NDArray[Any]) -> str:
    golden = evaluate(network, frames)
    differing = np.argwhere(golden != words)
    if not len(differing):
        return f"{golden.size:,} words of {len(frames):,} frames agree with the golden model of {network.name}"
    lines = [
        f"frame {place[0]}, word {list(place[1:].tolist())}: golden {golden[tuple(place)]}, got {words[tuple(place)]}"
        for place in differing[:SHOWN]
    ]
    if len(differing) > SHOWN:
        lines.append(f"... and {len(differing) - SHOWN:,} more")
    count = len(np.unique(differing[:, 0]))
    raise ComparisonFailed(
        f"{len(differing):,} of {golden.size:,} words differ, in {count:,} of {len(frames):,} frames:\n"
        + "\n".join(lines)
    )


def load_frames(path: Path, name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Frames of a shape from a ``.npy`` file, or from the array of a name in a ``.npz`` file.

    Raises
    ------
    ValueError
        If the file is missing, damaged, or has frames of another size.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        loaded = np.load(path, allow_pickle=False)
        array = loaded if isinstance(loaded, np.ndarray) else loaded[name]
    except KeyError:
        raise ValueError(f"{path} has no array {name!r}; name it so, or give a .npy file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a readable .npy or .npz file ({error})") from error
    flat = int(np.prod(shape))
    if array.ndim < 2 or int(np.prod(array.shape[1:])) != flat:
        raise ValueError(f"{path} has frames of shape {array.shape[1:]}, the graph needs {shape}")
    return array.reshape(len(array), *shape)
