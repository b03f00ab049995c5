"""Bad input: each is refused in one clear line, with a non-zero exit, and leaves nothing that passes for a build."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from karui.flows.bench.benchmark import Benchmark, BenchmarkResult, BenchmarkRun, Check, equal
from karui.flows.bench.command_line import karui
from karui.flows.bench.interruption import RECIPE, interrupted_builds
from karui.flows.build_folder import BuildError, BuildFolder
from karui.flows.design import compile_model
from karui.sim.verilator import CACHE_VARIABLE
from karui.sw.data import idx
from karui.sw.data.datasets import DATA_DIR_VARIABLE
from karui.sw.lower.unsupported import UnsupportedLayer
from karui.sw.nn.binary_linear import BinaryLinear


@dataclass(frozen=True, kw_only=True)
class BadInput:
    """A command that must be refused.

    Parameters
    ----------
    what : str
        What is wrong with it.
    arguments : tuple of str
        For `karui`.
    mentions : tuple of str
        Words of the thing, the value and the way out.
    build : Path or None
        Build folder in which `stage` must not pass for done afterwards.
    stage : str
        The stage.
    environment : mapping
        Variables changed for it.
    """

    what: str
    arguments: tuple[str, ...]
    mentions: tuple[str, ...]
    build: Path | None = None
    stage: str = "train"
    environment: Mapping[str, str] = field(default_factory=dict)


def measure(run: BenchmarkRun) -> BenchmarkResult:
    """Try every bad input, then kill builds."""
    checks = []
    for bad in (*_recipes(run.folder), *_data(run.folder), *_models(run.folder), *_designs(run.folder)):
        run.progress(bad.what)
        checks.append(_refusal(bad))
    checks.append(_unsupported_layer(run.folder))
    checks += interrupted_builds(run.folder, run.progress)
    return BenchmarkResult(checks=tuple(checks))


def _refusal(bad: BadInput) -> Check:
    fault = karui(*bad.arguments, environment=bad.environment).refuses(bad.mentions)
    if not fault and bad.build is not None:
        try:
            BuildFolder(path=bad.build).result(bad.stage)
            fault = f"{bad.stage} passes for done in {bad.build}"
        except BuildError:
            pass
    return equal(bad.what, fault or "refused", "refused")


def _recipes(folder: Path) -> list[BadInput]:
    out = folder / "recipes"
    cases = {
        "unknown key": ("epochs = 40", "epochz = 40", ("unknown.toml [train]", "'epochz'", "'epochs'")),
        "unknown section": ("[hardware]", "[hardwear]", ("'hardwear'", "'hardware'")),
        "value out of range": ("initiation_interval = 64", "initiation_interval = 0", ("initiation_interval", "0")),
        "shape mismatch": ("in_features = 64", "in_features = 100", ("100", "64", "in_features")),
    }
    folders = {what: folder / what.replace(" ", "-") for what in cases}
    for what, (good, bad, _) in cases.items():
        folders[what].mkdir()
        (folders[what] / "unknown.toml").write_text(RECIPE.replace(good, bad))
    return [
        BadInput(
            what="unknown recipe",
            arguments=("build", "bnn-tfcc", "--out", str(out)),
            mentions=("'bnn-tfcc'", "'bnn-tfc'", "karui recipes"),
            build=out,
        ),
        BadInput(what="unknown command", arguments=("biuld",), mentions=("'biuld'", "karui --help")),
        BadInput(what="unknown option", arguments=("build", "--devise", "x"), mentions=("--devise", "--help")),
        BadInput(
            what="unknown device",
            arguments=("build", "digits-bnn", "--device", "ecp5-86f", "--out", str(out)),
            mentions=("'ecp5-86f'", "'ecp5-85f"),
            build=out,
        ),
        *(
            BadInput(
                what=what,
                arguments=("build", str(folders[what] / "unknown.toml"), "--out", str(folders[what] / "out")),
                mentions=mentions,
                build=folders[what] / "out",
            )
            for what, (_, _, mentions) in cases.items()
        ),
    ]


def _data(folder: Path) -> list[BadInput]:
    """MNIST that is not there, cut short, and changed in one bit; the network ships, so compile is what fails."""
    empty, truncated, flipped = (folder / name for name in ("empty", "truncated", "flipped"))
    (empty / "mnist").mkdir(parents=True)
    # The first file that is read decides: the others need not be there.
    name = f"{idx.TRAIN_IMAGES}.gz"
    pixels = np.random.default_rng(0).integers(0, 256, 60_000, dtype=np.uint8).tobytes()
    packed = gzip.compress(pixels)
    for data, content in ((truncated, packed[: len(packed) // 2]), (flipped, packed)):
        (data / "mnist").mkdir(parents=True)
        (data / "mnist" / name).write_bytes(content)
    cases = {
        "missing data": (empty, (idx.TRAIN_IMAGES, "karui fetch mnist --data-dir")),
        "truncated data": (truncated, (name, "cannot be unpacked", "fetch it again")),
        "damaged data": (flipped, (name, "sha256", "karui fetch mnist --data-dir")),
    }
    refusals = [
        BadInput(
            what=what,
            arguments=("build", "bnn-tfc", "--data-dir", str(data), "--out", str(data / "out")),
            mentions=mentions,
            build=data / "out",
            stage="compile",
        )
        for what, (data, mentions) in cases.items()
    ]
    nowhere = BadInput(
        what="no data folder",
        arguments=("build", "bnn-tfc", "--out", str(folder / "nowhere")),
        mentions=("mnist", "--data-dir", DATA_DIR_VARIABLE),
        build=folder / "nowhere",
        stage="compile",
        environment={DATA_DIR_VARIABLE: ""},
    )
    return [*refusals, nowhere]


def _models(folder: Path) -> list[BadInput]:
    product = helper.make_node("MatMul", ["x", "weight"], ["y"], "product")
    bits = helper.make_node("BipolarQuant", ["x", "scale"], ["bits"], "bits")
    product_of_bits = helper.make_node("MatMul", ["bits", "weight"], ["y"], "product")
    sigmoid = helper.make_node("Sigmoid", ["bits"], ["y"], "sigmoid")
    models = {
        "neither dialect": ([product], ("neither dialect", "QONNX", "FINN-ONNX")),
        "float weights": ([bits, product_of_bits], ("'weight'", "floats", "BipolarQuant")),
        "unsupported operation": ([bits, sigmoid], ("sigmoid", "Sigmoid", "supported are", "MultiThreshold")),
    }
    cases = []
    for what, (nodes, mentions) in models.items():
        path = folder / f"{what.replace(' ', '-')}.onnx"
        onnx.save(_model(nodes), path)
        cases.append((what, path, mentions))
    damaged = folder / "damaged.onnx"
    damaged.write_bytes(b"\x08\x07not a model" * 100)
    cases.append(("damaged .onnx", damaged, ("damaged.onnx", "ONNX")))
    cases.append(("missing .onnx", folder / "missing.onnx", ("missing.onnx", ".onnx file")))
    return [
        BadInput(
            what=what,
            arguments=("import", str(path), "--out", str(path.with_suffix(""))),
            mentions=mentions,
            build=path.with_suffix(""),
            stage="compile",
        )
        for what, path, mentions in cases
    ]


def _model(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    used = {name for node in nodes for name in node.input}
    constants = {"weight": np.array([[0.3, -0.7], [0.1, 1.5]], np.float32), "scale": np.array(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def _designs(folder: Path) -> list[BadInput]:
    """Stages after a good start: a network is trained and compiled for them."""
    recipe = folder / "small.toml"
    recipe.write_text(RECIPE.replace("hidden = [16]", "hidden = [64, 64]"))
    good, untrained, changed, large = (folder / name for name in ("good", "untrained", "changed", "large"))
    karui("train", str(recipe), "--out", str(good))
    for copy in (untrained, changed, large):
        shutil.copytree(good, copy)
    (untrained / "checkpoint.npz").write_bytes((good / "checkpoint.npz").read_bytes()[:1000])
    for build, interval in ((good, 64), (changed, 64), (large, 4)):
        karui("compile", str(build), "--interval", str(interval))
    image = next((changed / "design" / "rtl").glob("*.mem"))
    words = image.read_text().split("\n")
    image.write_text("\n".join([f"{int(words[0], 16) ^ 1:0{len(words[0])}x}", *words[1:]]))
    np.save(folder / "frames.npy", np.zeros((3, 100), dtype=np.int64))
    np.save(folder / "words.npy", np.zeros((3, 1), dtype=np.int64))
    no_compiler = folder / "bin"
    no_compiler.mkdir()
    return [
        BadInput(
            what="no build folder",
            arguments=("simulate", str(folder / "none")),
            mentions=("none is not a build folder", "karui train"),
        ),
        BadInput(
            what="damaged checkpoint",
            arguments=("compile", str(untrained)),
            mentions=("checkpoint.npz", "karui train"),
            build=untrained,
            stage="compile",
        ),
        BadInput(
            what="weight changed behind the build",
            arguments=("simulate", str(changed)),
            mentions=(image.name, "has changed", "karui compile"),
            build=changed,
            stage="simulate",
        ),
        BadInput(
            what="frames of another shape",
            arguments=("compare", str(good), str(folder / "frames.npy"), str(folder / "words.npy")),
            mentions=("frames.npy", "(100,)", "(8, 8, 1)"),
        ),
        BadInput(
            what="more images than there are",
            arguments=("simulate", str(good), "--images", "1000000"),
            mentions=("1000000", "--images"),
            build=good,
            stage="simulate",
        ),
        BadInput(
            what="no compiler",
            arguments=("simulate", str(good)),
            mentions=("no C++ compiler", "install g++"),
            build=good,
            stage="simulate",
            environment={"PATH": str(no_compiler), CACHE_VARIABLE: str(folder / "no-cache")},
        ),
        BadInput(
            what="cache in a path that make cannot take",
            arguments=("simulate", str(good)),
            mentions=("a cache", CACHE_VARIABLE),
            build=good,
            stage="simulate",
            environment={CACHE_VARIABLE: str(folder / "a cache")},
        ),
        BadInput(
            what="too large for the device",
            arguments=("synthesize", str(large), "--device", "ice40-up5k"),
            mentions=("ice40-up5k", "5,280", "--interval", "--fit"),
        ),
        BadInput(
            what="faster than fully parallel",
            arguments=("compile", str(untrained.parent / "good"), "--frame-rate", "1e9"),
            mentions=("initiation interval", "ask for"),
            build=good,
            stage="compile",
        ),
    ]


def _unsupported_layer(folder: Path) -> Check:
    """A network of one's own is refused where Python meets it: by an exception of one line."""
    network = nn.Sequential(nn.Flatten(), BinaryLinear(64, 10), nn.GELU())
    try:
        compile_model(network, (1, 8, 8), folder / "unsupported")
        fault = "compiled"
    except UnsupportedLayer as error:
        message = str(error)
        clear = "GELU" in message and "supported are" in message and os.linesep not in message
        fault = "" if clear else message
    return equal("unsupported layer", fault or "refused", "refused")


BAD_INPUT = Benchmark(
    name="bad-input",
    description="bad input to real `karui` processes, and builds killed in the middle of a stage",
    target="each refused with a non-zero exit and one line on the thing, the value and the way out; killed builds "
    "restart to the same result",
    minutes=8,
    measure=measure,
)
