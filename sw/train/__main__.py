"""Train a recipe without the rest of the flow: ``python -m karui.sw.train RECIPE.toml --state-dir DIR``."""

import argparse
from pathlib import Path

from rich.console import Console
from torch import nn

from karui.sw.train.loop import EpochRecord, OnEpoch
from karui.sw.train.recipe import load_training_recipe
from karui.sw.train.run import save_trained, train_recipe


def main() -> None:
    """Train, resuming from the state folder, and write the checkpoint beside the recipe or where told."""
    parser = argparse.ArgumentParser(prog="python -m karui.sw.train", description=main.__doc__)
    parser.add_argument("recipe", type=Path, help="recipe file (.toml)")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets (default: KARUI_DATA)")
    parser.add_argument("--state-dir", type=Path, required=True, help="folder of the resumable state")
    parser.add_argument("--output", type=Path, help="checkpoint to write (default: the recipe's name with .npz)")
    arguments = parser.parse_args()
    recipe = load_training_recipe(arguments.recipe)
    console = Console()
    trained = train_recipe(
        recipe,
        data_dir=arguments.data_dir,
        state_dir=arguments.state_dir,
        on_epoch=_reporter(console, recipe.name),
        on_teacher_epoch=_reporter(console, f"{recipe.name}, teacher"),
        on_pretrain_epoch=_reporter(console, f"{recipe.name}, float phase"),
    )
    output = arguments.output or arguments.recipe.with_suffix(".npz")
    save_trained(output, trained)
    for name, accuracy in trained.accuracies.items():
        console.print(f"{recipe.name}: test accuracy, {name}: {accuracy:.4%}")
    console.print(f"{recipe.name}: written to {output}")


def _reporter(console: Console, title: str) -> OnEpoch:
    def report(record: EpochRecord, model: nn.Module) -> None:
        console.print(
            f"{title}: epoch {record.epoch}/{record.epochs}  loss {record.loss:.4f}  "
            f"training accuracy {record.accuracy:.4f}  {record.seconds:.1f} s"
        )

    return report


if __name__ == "__main__":
    main()
