"""The command line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from typer.exceptions import TyperException

from karui.flows import run_stages
from karui.flows.bench.benchmark import BenchmarkMissed
from karui.flows.build_folder import BuildError, BuildFolder
from karui.flows.compare import ComparisonFailed, compare_files
from karui.flows.counting import count_network, parse_image, parse_ratio, show, show_networks, to_json
from karui.flows.progress import console, error_console, stage_display
from karui.flows.puppet_pictures import draw as draw_puppet
from karui.flows.recipe import find_recipe, recipe_names
from karui.flows.report.results import find_checkout, keep, update_readme
from karui.flows.settings import Settings
from karui.flows.simulating import Mismatch
from karui.flows.sweep_plot import plot
from karui.flows.sweeping import show as show_sweep
from karui.flows.sweeping import sweep as run_sweep
from karui.flows.synthesize import PlaceAndRouteFailed, TimingMissed
from karui.flows.synthesizing import TooLargeForDevice
from karui.hw.emit.yosys import YosysError
from karui.sim.simulate import SimulationError
from karui.sim.verilator import BuildError as SimulationBuildError
from karui.sim.verilator import ToolchainError
from karui.sw.data.fetch import fetch as fetch_data

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help=(
        "[bold]karui[/bold]: light neural networks, from PyTorch to gates.\n\n"
        "A [bold]recipe[/bold] names a network, its data, its training and its hardware. "
        "[bold]karui build RECIPE[/bold] trains it (or takes the checkpoint that ships), lowers it to integers, proves "
        "the integers equal to the network, generates RTL, proves that equal on Verilator, places and routes it, and "
        "writes [bold]out/RECIPE/report.html[/bold].\n\n"
        "The stages run alone too, each from the files of the one before:\n\n"
        "  karui train digits-bnn && karui compile out/digits-bnn && karui simulate out/digits-bnn"
    ),
)

RecipeName = Annotated[str, typer.Argument(help="Name of a recipe (`karui recipes` lists them) or a recipe file.")]
Folder = Annotated[Path, typer.Argument(help="Build folder, for example out/digits-bnn.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="KARUI_DATA", help="Folder with mnist, fashion-mnist, cifar10.", metavar="DIR"),
]
Out = Annotated[Path | None, typer.Option("--out", help="Build folder; out/RECIPE unless given.", metavar="DIR")]
Device = Annotated[str | None, typer.Option("--device", help="Target: ecp5-25f-6 ... ecp5-85f-8, ice40-hx8k, xc7z020.")]
Clock = Annotated[float | None, typer.Option("--clock", help="Clock asked for, in MHz.")]
Interval = Annotated[int | None, typer.Option("--interval", help="Initiation interval: cycles a frame, at most.")]
FrameRate = Annotated[float | None, typer.Option("--frame-rate", help="Frames a second at that clock, at least.")]
Fit = Annotated[bool, typer.Option("--fit", help="The best rate within the device.")]
Images = Annotated[int | None, typer.Option("--images", help="Test images through the RTL; all unless given.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the training; trains anew.")]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Placement seeds to try until one meets the clock.")]
Retrain = Annotated[bool, typer.Option("--retrain", help="Train even where a checkpoint ships with the recipe.")]


@app.command()
def recipes() -> None:
    """List the recipes."""
    table = Table("recipe", "what it is", "data", "checkpoint", box=None, pad_edge=False)
    for name in recipe_names():
        recipe = find_recipe(name)
        ships = "-" if recipe.checkpoint is None else f"{recipe.checkpoint.stat().st_size / 1024:.0f} KiB"
        table.add_row(f"[bold]{name}[/bold]", recipe.description, recipe.training.data.name, ships)
    console.print(table)


@app.command()
def build(
    recipe: RecipeName,
    out: Out = None,
    data_dir: DataDir = None,
    device: Device = None,
    clock: Clock = None,
    interval: Interval = None,
    frame_rate: FrameRate = None,
    fit: Fit = False,
    images: Images = None,
    seed: Seed = None,
    seeds: Seeds = None,
    retrain: Retrain = False,
    record: Annotated[bool, typer.Option("--record", help="Keep the figures as flows/results/RECIPE.json.")] = False,
    record_to: Annotated[Path | None, typer.Option("--record-to", help="Keep the figures in this file.")] = None,
) -> None:
    """Train, prove, generate, simulate, place and route, report: the whole way."""
    settings = Settings(recipe=recipe, seed=seed, retrain=retrain, hardware=find_recipe(recipe).hardware)
    settings = _with_hardware(settings, device, clock, interval, frame_rate, fit, images, seeds)
    folder = _folder(settings, out)
    if record and record_to is None:
        find_checkout(Path.cwd())
    run_stages.build(folder, settings, data_dir)
    if record or record_to is not None:
        console.print(f"recorded in {keep(folder.path, record_to)}", highlight=False, soft_wrap=True)


@app.command()
def train(
    recipe: RecipeName, out: Out = None, data_dir: DataDir = None, seed: Seed = None, retrain: Retrain = False
) -> None:
    """Start a build folder with a trained network: the one that ships, or a training (resumed if it was cut off)."""
    settings = Settings(recipe=recipe, seed=seed, retrain=retrain, hardware=find_recipe(recipe).hardware)
    folder = _folder(settings, out)
    settings.save(folder)
    run_stages.train(folder, settings, data_dir)


@app.command("compile")
def compile_(
    folder: Folder,
    data_dir: DataDir = None,
    device: Device = None,
    clock: Clock = None,
    interval: Interval = None,
    frame_rate: FrameRate = None,
    fit: Fit = False,
) -> None:
    """Lower the network, prove golden = network, fold it, generate the RTL."""
    build_folder, settings = _existing(folder)
    settings = _with_hardware(settings, device, clock, interval, frame_rate, fit, None, None)
    settings.save(build_folder)
    run_stages.compile_(build_folder, settings, data_dir)


@app.command("import")
def import_(
    model: Annotated[Path, typer.Argument(help="ONNX file: QONNX, FINN-ONNX, integer operators.", metavar="FILE.onnx")],
    out: Annotated[Path | None, typer.Option("--out", help="Build folder; out/FILE unless given.")] = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="Frames to simulate, .npy (n, H, W, C); random ones unless given.")
    ] = None,
    device: Device = None,
    clock: Clock = None,
    interval: Interval = None,
    frame_rate: FrameRate = None,
    fit: Fit = False,
) -> None:
    """Import a network that another toolkit trained: a build folder for `simulate` and `synthesize`."""
    settings = _with_hardware(Settings(recipe=str(model)), device, clock, interval, frame_rate, fit, None, None)
    run_stages.import_(_folder(settings, out), settings, model, inputs)


@app.command()
def simulate(
    folder: Folder,
    images: Images = None,
    netlist: Annotated[bool, typer.Option("--netlist", help="The synthesized netlist instead of the RTL.")] = False,
) -> None:
    """Prove RTL = golden on Verilator, every output word, with and without pauses; measure the cycles."""
    build_folder, settings = _existing(folder)
    if netlist:
        if images is not None:
            settings = replace(settings, hardware=replace(settings.hardware, netlist_images=images))
        run_stages.netlist(build_folder, settings)
    else:
        run_stages.simulate(build_folder, _with_hardware(settings, None, None, None, None, False, images, None))


@app.command()
def synthesize(folder: Folder, device: Device = None, clock: Clock = None, seeds: Seeds = None) -> None:
    """Map, place and route; a missed clock is an error that names the critical path."""
    build_folder, settings = _existing(folder)
    settings = _with_hardware(settings, device, clock, None, None, False, None, seeds)
    settings.save(build_folder)
    run_stages.synthesize(build_folder, settings)


@app.command()
def report(folder: Folder) -> None:
    """Write report.html and report.json of a build folder."""
    run_stages.report(_existing(folder)[0])


@app.command()
def table() -> None:
    """Write the README's table of recipes anew from the recorded builds (in a checkout)."""
    checkout = find_checkout(Path.cwd())
    changed = update_readme(checkout)
    console.print(f"{checkout / 'README.md'}: {'table written' if changed else 'table was up to date'}")


@app.command("count")
def count_(
    network: Annotated[
        str | None, typer.Argument(help="Network, recipe or recipe file; without one the networks are listed.")
    ] = None,
    image: Annotated[str | None, typer.Option("--image", help="224, 240x320 (height x width) or 1x28x28.")] = None,
    classes: Annotated[int | None, typer.Option("--classes", help="Number of classes.")] = None,
    alpha: Annotated[str | None, typer.Option("--alpha", help="Width multiplier, for example 0.75.")] = None,
    rho: Annotated[str | None, typer.Option("--rho", help="Resolution multiplier, for example 6/7.")] = None,
    groups: Annotated[int | None, typer.Option("--groups", help="Groups of ShuffleNet's pointwise layers.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
) -> None:
    """Count parameters and multiply-accumulates by layer, beside what the papers' formulas predict."""
    if network is None:
        show_networks()
        return
    changes: dict[str, Any] = {"classes": classes, "groups": groups}
    changes["image"] = None if image is None else parse_image(image, network)
    changes["alpha"] = None if alpha is None else parse_ratio("--alpha", alpha)
    changes["rho"] = None if rho is None else parse_ratio("--rho", rho)
    counted = count_network(network, {name: value for name, value in changes.items() if value is not None})
    if json_:
        typer.echo(json.dumps(to_json(counted), indent=2))
    else:
        show(counted)


@app.command()
def sweep(
    recipe: RecipeName,
    out: Annotated[Path | None, typer.Option("--out", help="out/sweep/RECIPE unless given.", metavar="DIR")] = None,
    alpha: Annotated[str, typer.Option("--alpha", help="Width multipliers, with commas.")] = "1,0.75,0.5",
    rho: Annotated[str, typer.Option("--rho", help="Resolution multipliers, with commas.")] = "1,0.75,0.5",
    epochs: Annotated[int, typer.Option("--epochs", help="Epochs of each training, at most 10.")] = 10,
    device: Device = None,
    data_dir: DataDir = None,
) -> None:
    """Train a MobileNet at several widths and resolutions: accuracy, cost and rate, as table, JSON and drawing.

    What is finished stays: the same command goes on where it was cut off.
    """
    found = find_recipe(recipe)
    folder = out or Path("out/sweep") / found.name
    with stage_display("sweep") as display:
        result = run_sweep(
            found,
            folder,
            alphas=[parse_ratio("--alpha", text) for text in alpha.split(",")],
            rhos=[parse_ratio("--rho", text) for text in rho.split(",")],
            epochs=epochs,
            device=device,
            data_dir=data_dir,
            progress=display.count,
        )
    plot(result, folder / "sweep.svg")
    show_sweep(result)
    console.print(f"recorded in {folder / 'sweep.json'}, drawn in {folder / 'sweep.svg'}", soft_wrap=True)


@app.command()
def pictures(
    recipe: RecipeName,
    out: Annotated[Path | None, typer.Option("--out", help="out/pictures unless given.", metavar="DIR")] = None,
    data_dir: DataDir = None,
) -> None:
    """Draw a network of generated kernels: kernels along the depth, images by complexity, accuracy over cycles."""
    for path in draw_puppet(find_recipe(recipe), out or Path("out/pictures"), data_dir=data_dir):
        console.print(f"drawn in {path}", soft_wrap=True, highlight=False)


@app.command()
def compare(
    graph: Annotated[Path, typer.Argument(help="Folder with graph.json and weights.npz, or a build folder.")],
    inputs: Annotated[Path, typer.Argument(help="Input frames: .npy, or .npz with an array `inputs`.")],
    outputs: Annotated[Path, typer.Argument(help="Output words from elsewhere: .npy, or .npz with `outputs`.")],
) -> None:
    """Check output words that came from anywhere (another simulator, a board) against the golden model."""
    console.print(compare_files(graph, inputs, outputs))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="mnist, fashion-mnist or cifar10.")],
    data_dir: Annotated[Path, typer.Option("--data-dir", envvar="KARUI_DATA", help="Folder to fill.", metavar="DIR")],
) -> None:
    """Download a data set from its usual public mirrors."""
    folder = fetch_data(name, data_dir, on_file=lambda file: console.print(f"fetching {file}"))
    console.print(f"{name} is in {folder}")


@app.command()
def bench(
    name: Annotated[str | None, typer.Argument(help="Benchmark; without one they are listed.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Measure one of the project's claims and hold it against its target."""
    from karui.flows.bench import main as run_bench

    run_bench(name, data_dir)


def main() -> None:
    """Run the command line; what is the user's to mend becomes one clear line and exit code 1."""
    try:
        app(standalone_mode=False, prog_name="karui")
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        error_console.print("[bold red]stopped[/bold red]: what is complete stays; run the command again to go on")
        sys.exit(130)
    except TyperException as error:
        error_console.print(f"[bold red]error[/bold red]: {escape(_usage(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except TimingMissed as error:
        error_console.print(f"[bold red]timing missed[/bold red]: {escape(str(error))}", highlight=False)
        sys.exit(2)
    except _CLEAR_ERRORS as error:
        error_console.print(f"[bold red]error[/bold red]: {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)


# ValueError is the base of the refusals of recipes, configurations, data, graphs, foldings and manifests.
_CLEAR_ERRORS = (
    ValueError,
    BuildError,
    Mismatch,
    BenchmarkMissed,
    ComparisonFailed,
    TooLargeForDevice,
    PlaceAndRouteFailed,
    ToolchainError,
    SimulationBuildError,
    SimulationError,
    YosysError,
    OSError,
)


def _usage(error: TyperException) -> str:
    """A wrong command line in one line, with the command that explains the right one."""
    context = getattr(error, "ctx", None)
    hint = "" if context is None else f"; `{context.command_path} --help` explains it"
    return " ".join(f"{error.format_message().rstrip('.')}{hint}".split())


def _folder(settings: Settings, out: Path | None) -> BuildFolder:
    return BuildFolder(path=out or Path("out") / Path(settings.recipe).stem)


def _existing(path: Path) -> tuple[BuildFolder, Settings]:
    folder = BuildFolder(path=path)
    return folder, Settings.load(folder)


def _with_hardware(
    settings: Settings,
    device: str | None,
    clock: float | None,
    interval: int | None,
    frame_rate: float | None,
    fit: bool,
    images: int | None,
    seeds: int | None,
) -> Settings:
    """The settings with the options that were given over them; a rate replaces the recipe's."""
    changes: dict[str, Any] = {"device": device, "clock_mhz": clock, "images": images, "seeds": seeds}
    changes = {name: value for name, value in changes.items() if value is not None}
    if interval is not None or frame_rate is not None or fit:
        changes |= {"initiation_interval": interval, "frame_rate": frame_rate, "fit": fit}
    return replace(settings, hardware=replace(settings.hardware, **changes))
