"""Build folders that start from an ONNX file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from karui.flows.build_folder import BuildFolder
from karui.flows.design import Design
from karui.flows.importing import run_import
from karui.flows.recipe import HardwareConfig
from karui.flows.settings import Settings
from karui.sw.golden import evaluate
from karui.sw.lower.onnx_model import UnsupportedModel

WEIGHTS = np.random.default_rng(0).choice([-1.0, 1.0], (8, 3)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Eight bits times a binary matrix."""
    nodes = [
        helper.make_node("BipolarQuant", ["x", "scale"], ["bits"]),
        helper.make_node("BipolarQuant", ["weight", "scale"], ["signs"]),
        helper.make_node("MatMul", ["bits", "signs"], ["y"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(WEIGHTS, "weight"), numpy_helper.from_array(np.float32(1).reshape(()), "scale")],
    )
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


def _settings(model: Path) -> Settings:
    return Settings(recipe=str(model), hardware=HardwareConfig(initiation_interval=12))


def test_an_imported_network_is_ready_to_be_simulated(model: Path, tmp_path: Path) -> None:
    folder = BuildFolder(path=tmp_path / "out")
    result = run_import(folder, _settings(model), model)
    assert (result["dialect"], result["images"]) == ("QONNX", 100)
    assert folder.result("compile")["predicted"]["initiation_interval"]["max"] <= 12
    assert Settings.load(folder) == _settings(model)
    with np.load(folder.vectors) as vectors:
        np.testing.assert_array_equal(vectors["outputs"], vectors["inputs"] @ WEIGHTS)
        assert len(np.unique(vectors["inputs"], axis=0)) > 50


def test_given_frames_are_taken(model: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(1).choice([-1, 1], (5, 8))
    np.save(tmp_path / "frames.npy", frames)
    folder = BuildFolder(path=tmp_path / "out")
    run_import(folder, _settings(model), model, inputs=tmp_path / "frames.npy")
    with np.load(folder.vectors) as vectors:
        np.testing.assert_array_equal(vectors["inputs"], frames)
        np.testing.assert_array_equal(vectors["outputs"], evaluate(Design.load(folder.design).graph, frames))


def test_what_cannot_be_imported_leaves_no_build_folder(tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    folder = BuildFolder(path=tmp_path / "out")
    with pytest.raises(UnsupportedModel, match=r"damaged\.onnx"):
        run_import(folder, _settings(tmp_path / "damaged.onnx"), tmp_path / "damaged.onnx")
    assert not folder.path.exists()
