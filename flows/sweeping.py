"""MobileNet's two multipliers swept: what each width and resolution costs, and reaches in one short training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import nn

from karui.flows.build_folder import write_json
from karui.flows.counting import count_config, wide_console
from karui.flows.device_fill import DeviceFill
from karui.flows.progress import console
from karui.flows.recipe import Recipe
from karui.flows.synthesize.targets import find_device
from karui.hw.plan.estimate import cycles
from karui.hw.plan.folding import FoldingError, fold_for_budget, total_cost
from karui.hw.plan.stages import stages
from karui.sw.data.dataset import Dataset
from karui.sw.lower.from_torch import lower
from karui.sw.models.mobilenet import MobileNetConfig, MobileNetV2Config
from karui.sw.numerics import format_for_range
from karui.sw.train.config import TrainConfig
from karui.sw.train.data import load_data
from karui.sw.train.loop import EpochRecord
from karui.sw.train.recipe import TrainingRecipe
from karui.sw.train.run import save_trained, train_recipe

LONGEST_TRAINING = 10
# Share of a point's epochs that train the quantized network, behind a float phase.
QUANTIZED_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What the generator estimates for a network within a device.

    Parameters
    ----------
    cycles : int
        Between two frames.
    luts, block_rams, dsps : int
        Cells.
    """

    cycles: int
    luts: int
    block_rams: int
    dsps: int


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One width and resolution.

    Parameters
    ----------
    alpha, rho : float
        The multipliers.
    image : tuple of int
        What the network takes: channels, height, width.
    parameters, macs : int
        As `karui count` counts them.
    accuracies : dict
        Fractions of the test images: ``model``, and ``float`` where the recipe has a float phase.
    hardware : Hardware or None
        At the best rate within the device; None where even the slowest design exceeds it.
    """

    alpha: float
    rho: float
    image: tuple[int, ...]
    parameters: int
    macs: int
    accuracies: dict[str, float]
    hardware: Hardware | None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All points of a sweep.

    Parameters
    ----------
    recipe : str
        Whose network was varied.
    device : str
        In which the designs must fit.
    epochs : int
        Of each point, all phases together.
    points : tuple of SweepPoint
        Widths first.
    """

    recipe: str
    device: str
    epochs: int
    points: tuple[SweepPoint, ...]


def sweep(
    recipe: Recipe,
    folder: Path,
    *,
    alphas: Sequence[float],
    rhos: Sequence[float],
    epochs: int = LONGEST_TRAINING,
    device: str | None = None,
    data_dir: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda line, done, total: None,
) -> Sweep:
    """Train and estimate every pair of multipliers; what a sweep of the same settings left in the folder is kept.

    Parameters
    ----------
    recipe : Recipe
        A MobileNet, trained with its own settings but for the number of epochs.
    folder : Path
        For ``sweep.json``, and a folder a point with the state of its training, then its checkpoint and ``point.json``.
    alphas, rhos : sequence of float
        Width and resolution multipliers.
    epochs : int
        Of each point, all phases together; at most 10.
    device : str, optional
        In which each design gets the best rate; the recipe's unless given.
    data_dir : Path, optional
        Folder of the data sets.
    progress : callable
        Called with a line, epochs done and epochs in all.

    Raises
    ------
    ValueError
        If the recipe's network has no multipliers, or a number is out of range.
    """
    device = find_device(device or recipe.hardware.device).name
    plans = [plan(recipe.training, alpha=alpha, rho=rho, epochs=epochs) for alpha in alphas for rho in rhos]
    points = []
    for index, planned in enumerate(plans):

        def note(record: EpochRecord, model: nn.Module, index: int = index, planned: TrainingRecipe = planned) -> None:
            line = f"{index + 1} of {len(plans)}, {_label(planned)}: loss {record.loss:.3f}"
            progress(line, record.epoch, record.epochs)

        points.append(_point(planned, folder / _label(planned), device, data_dir, note))
    result = Sweep(recipe=recipe.name, device=device, epochs=epochs, points=tuple(points))
    write_json(folder / "sweep.json", asdict(result))
    return result


def plan(recipe: TrainingRecipe, *, alpha: float, rho: float, epochs: int) -> TrainingRecipe:
    """A recipe's training with other multipliers and fewer epochs.

    Raises
    ------
    ValueError
        If its network has no multipliers, or a number is out of range.
    """
    if not isinstance(recipe.model, MobileNetConfig | MobileNetV2Config):
        raise ValueError(f"{recipe.name} has no alpha and rho to sweep: take a recipe of the family mobilenet")
    if not 1 <= epochs <= LONGEST_TRAINING:
        raise ValueError(f"epochs of a sweep must be 1 to {LONGEST_TRAINING}, not {epochs}")
    return replace(recipe, model=replace(recipe.model, alpha=alpha, rho=rho), train=_shortened(recipe.train, epochs))


def show(result: Sweep) -> None:
    """Print the points."""
    header = ("alpha", "rho", "image", "parameters", "MACs", "float", "model", "cycles", "LUTs", "block RAMs", "DSPs")
    table = Table(*header, box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    for point in result.points:
        hardware = point.hardware
        estimates = (
            ("-",) * 4
            if hardware is None
            else (f"{hardware.cycles:,}", f"{hardware.luts:,}", str(hardware.block_rams), str(hardware.dsps))
        )
        table.add_row(
            f"{point.alpha:g}",
            f"{point.rho:.3g}",
            "x".join(map(str, point.image)),
            f"{point.parameters:,}",
            f"{point.macs:,}",
            f"{point.accuracies['float']:.2%}" if "float" in point.accuracies else "-",
            f"{point.accuracies['model']:.2%}",
            *estimates,
        )
    console.print(f"[bold]{result.recipe}[/bold], {result.epochs} epochs a point; best rate within {result.device}")
    wide_console.print(table)


def _shortened(train: TrainConfig, epochs: int) -> TrainConfig:
    """The same training in fewer epochs, split over its phases."""
    if train.pretrain is None or epochs == 1:
        return replace(train, epochs=epochs, pretrain=None)
    quantized = max(1, round(QUANTIZED_SHARE * epochs))
    return replace(train, epochs=quantized, pretrain=replace(train.pretrain, epochs=epochs - quantized))


def _point(
    recipe: TrainingRecipe,
    folder: Path,
    device: str,
    data_dir: Path | None,
    on_epoch: Callable[[EpochRecord, nn.Module], None],
) -> SweepPoint:
    """A point from its record, or trained and estimated."""
    model = recipe.model
    assert isinstance(model, MobileNetConfig | MobileNetV2Config)
    record = folder / "point.json"
    settings = json.loads(json.dumps({"recipe": asdict(recipe), "device": device}))
    if record.is_file():
        found = json.loads(record.read_text())
        if found["settings"] == settings:
            return _from_json(found["point"])
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_recipe(
        recipe, data_dir=data_dir, state_dir=folder / "state", on_epoch=on_epoch, on_pretrain_epoch=on_epoch
    )
    save_trained(folder / "checkpoint.npz", trained)
    shutil.rmtree(folder / "state")
    network = count_config(model)
    point = SweepPoint(
        alpha=model.alpha,
        rho=model.rho,
        image=network.input_shape,
        parameters=network.parameters,
        macs=network.macs,
        accuracies=trained.accuracies,
        hardware=_hardware(trained.model, load_data(recipe, data_dir), device),
    )
    write_json(record, {"settings": settings, "point": asdict(point)})
    return point


def _hardware(model: nn.Module, dataset: Dataset, device: str) -> Hardware | None:
    """The generator's estimate at the best rate within a device."""
    graph = lower(model, dataset.image_shape, input_format=format_for_range(0, dataset.pixel_maximum)).graph
    pipeline = stages(graph)
    try:
        folding = fold_for_budget(pipeline, DeviceFill().budget(find_device(device)))
    except FoldingError:
        return None
    cost = total_cost(pipeline, folding)
    interval = max(cycles(stage.op, stage, folding.folds[stage.name]) for stage in pipeline)
    return Hardware(cycles=interval, luts=cost.luts, block_rams=cost.block_rams, dsps=cost.dsps)


def _from_json(values: dict[str, Any]) -> SweepPoint:
    hardware = values.pop("hardware")
    return SweepPoint(
        **values | {"image": tuple(values["image"])}, hardware=None if hardware is None else Hardware(**hardware)
    )


def _label(recipe: TrainingRecipe) -> str:
    model = recipe.model
    assert isinstance(model, MobileNetConfig | MobileNetV2Config)
    return f"alpha-{model.alpha:g}-rho-{model.rho:g}"
