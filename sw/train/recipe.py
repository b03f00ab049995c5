"""What of a recipe file concerns training: its name and the sections [data], [model] and [train]."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from karui.sw.configuration import ConfigurationError, from_mapping, nearest
from karui.sw.models.build import FAMILIES, LightConfig, ModelConfig
from karui.sw.models.capsnet import CapsNetConfig
from karui.sw.models.capsule_vgg import CapsuleVggConfig
from karui.sw.models.puppet import PuppetConfig
from karui.sw.nn.precision import FLOAT
from karui.sw.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Section [data]: `name` as `karui.sw.data.datasets.load` takes it."""

    name: str


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """A network, its data and its training, under a name.

    Parameters
    ----------
    name, data, model, train
        The file's name without its ending, and its sections.
    start
        Checkpoint that ``train.start`` names.
    """

    name: str
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    start: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, CapsNetConfig | CapsuleVggConfig):
            if self.train.loss == "margin":
                raise ConfigurationError(f'{self.name} [train]: loss = "margin" is for capsules; choose another')
            if self.train.reconstruction is not None:
                raise ConfigurationError(f"{self.name} [train]: reconstruction is from capsules; remove it")
        continuous = isinstance(self.model, PuppetConfig) and self.model.is_continuous
        if self.train.start is not None and not (continuous or isinstance(self.model, CapsNetConfig)):
            raise ConfigurationError(
                f"{self.name} [train]: start is for the family capsnet and for continuous generators; remove it"
            )
        if continuous and self.train.pretrain is None and self.train.start is None:
            raise ConfigurationError(
                f"{self.name} [train]: continuous generators are fitted to an Euler generator: that of a shipped "
                f"network or of a float phase; add start or pretrain"
            )
        if self.train.regression is not None and not continuous:
            raise ConfigurationError(f"{self.name} [train]: regression is for continuous generators; remove it")
        if isinstance(self.model, LightConfig):
            if self.train.distillation is not None and not self._may_be_distilled:
                raise ConfigurationError(
                    f"{self.name} [train]: distillation is for the binary families and for generated kernels; remove it"
                )
            if self.train.pretrain is not None and self.model.precision == FLOAT:
                raise ConfigurationError(
                    f"{self.name} [train]: pretrain comes before a quantized phase; give [model] a precision with bits"
                )
        elif self.train.pretrain is not None:
            raise ConfigurationError(f"{self.name} [train]: pretrain is for families with a precision; remove it")

    @property
    def _may_be_distilled(self) -> bool:
        return isinstance(self.model, PuppetConfig) and self.model.generator != "stored"


def load_training_recipe(path: Path) -> TrainingRecipe:
    """Read a recipe file, leaving the sections of other stages alone.

    Raises
    ------
    ConfigurationError
        If the file is not TOML, a section is missing, or a key or value is wrong.
    """
    try:
        content = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
    sections = {name: _section(content, name, path) for name in ("data", "model", "train")}
    train = from_mapping(TrainConfig, sections["train"], f"{path.name} [train]")
    return TrainingRecipe(
        name=path.stem,
        data=from_mapping(DataConfig, sections["data"], f"{path.name} [data]"),
        model=model_config(sections["model"], f"{path.name} [model]"),
        train=train,
        start=None if train.start is None else path.parent / f"{train.start}.npz",
    )


def model_config(mapping: Mapping[str, object], where: str) -> ModelConfig:
    """Build the configuration that the key `family` names from the other keys."""
    fields = dict(mapping)
    family = fields.pop("family", None)
    if not isinstance(family, str) or family not in FAMILIES:
        hint = nearest(str(family), list(FAMILIES))
        raise ConfigurationError(f"{where}: family must be one of {', '.join(FAMILIES)}, not {family!r}; {hint}")
    return from_mapping(FAMILIES[family], fields, where)


def _section(content: Mapping[str, object], name: str, path: Path) -> Mapping[str, object]:
    section = content.get(name)
    if not isinstance(section, Mapping):
        raise ConfigurationError(f"{path}: the section [{name}] is missing")
    return section
