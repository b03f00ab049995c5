"""The stages of a build: restarts, refusals, and what is never taken for finished."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from karui.flows.build_folder import BuildError, BuildFolder
from karui.flows.cli import main
from karui.flows.compiling import run_compile
from karui.flows.recipe import HardwareConfig, find_recipe, load_recipe, recipe_names
from karui.flows.settings import Settings
from karui.flows.training import run_train
from karui.sw.configuration import ConfigurationError

SMALL = """
description = "Small"
[data]
name = "digits"
[model]
family = "binary-mlp"
in_features = 64
hidden = [16]
input = "pixels"
[train]
epochs = 3
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def built(recipe_file: Path, tmp_path: Path) -> tuple[BuildFolder, Settings]:
    folder = BuildFolder(path=tmp_path / "out")
    settings = Settings(recipe=str(recipe_file), hardware=HardwareConfig(initiation_interval=128))
    settings.save(folder)
    run_train(folder, settings)
    run_compile(folder, settings)
    return folder, settings


def karui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and standard error of a command line."""
    monkeypatch.setattr(sys, "argv", ["karui", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    else:
        code = 0
    return code, capsys.readouterr().err


def test_every_recipe_loads() -> None:
    assert "digits-bnn" in recipe_names()
    for name in recipe_names():
        assert find_recipe(name).name == name


def test_records_follow_the_files_they_were_made_from(built: tuple[BuildFolder, Settings]) -> None:
    folder, settings = built
    assert folder.result("compile")["golden_vs_model"] == {"images": 360, "mismatches": 0, "arithmetic": "float32"}
    folder.checkpoint.write_bytes(folder.checkpoint.read_bytes() + b"\0")
    with pytest.raises(
        BuildError, match=r"checkpoint\.npz has changed since compile\.json was written: run `karui com"
    ):
        folder.result("compile")
    with pytest.raises(BuildError, match=r"has changed since train\.json was written"):
        run_compile(folder, settings)


def test_a_stage_that_was_cut_off_has_no_record(
    built: tuple[BuildFolder, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, settings = built

    def cut_off(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("karui.flows.compiling.Design.create", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run_compile(folder, settings)
    with pytest.raises(BuildError, match=r"has no compile\.json: run `karui compile"):
        folder.result("compile")
    assert run_compile(folder, settings)["golden_vs_model"]["mismatches"] == 0


def test_training_resumes_with_the_same_bits(recipe_file: Path, tmp_path: Path) -> None:
    settings = Settings(recipe=str(recipe_file))
    whole, cut = (BuildFolder(path=tmp_path / name) for name in ("whole", "cut"))

    class CutOff(Exception):
        pass

    def stop_after_two(phase: str, record: object) -> None:
        if getattr(record, "epoch", 0) == 2:
            raise CutOff

    run_train(whole, settings)
    with pytest.raises(CutOff):
        run_train(cut, settings, on_epoch=stop_after_two)
    assert not cut.record("train").exists()
    result = run_train(cut, settings)
    assert [entry["epoch"] for entry in result["history"]] == [1, 2, 3]
    with np.load(whole.checkpoint) as one, np.load(cut.checkpoint) as other:
        assert one.files == other.files
        for name in one.files:
            if name != "header":
                assert np.array_equal(one[name], other[name]), name


def test_another_seed_does_not_resume(recipe_file: Path, tmp_path: Path) -> None:
    folder = BuildFolder(path=tmp_path / "out")
    epochs: list[int] = []

    class CutOff(Exception):
        pass

    def note(phase: str, record: object) -> None:
        epochs.append(getattr(record, "epoch", 0))
        if len(epochs) == 2:
            raise CutOff

    with pytest.raises(CutOff):
        run_train(folder, Settings(recipe=str(recipe_file)), on_epoch=note)
    run_train(folder, Settings(recipe=str(recipe_file), seed=7), on_epoch=note)
    assert epochs == [1, 2, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[hardwar]\n", r"unknown key 'hardwar'; did you mean 'hardware'\?"),
        ("[hardware]\nclock = 3\n", r"\[hardware\]: unknown key 'clock'; did you mean 'clock_mhz'\?"),
        ("[hardware]\nfit = true\nframe_rate = 10.0\n", "give one of initiation_interval, frame_rate and fit"),
        ("[hardware]\ndevice = 'ecp5-26f'\n", "unknown device 'ecp5-26f'; did you mean 'ecp5-25f"),
        ("[hardware]\nseeds = 0\n", "seeds must be 1 or more, not 0"),
    ],
)
def test_wrong_recipes_are_refused_by_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(SMALL + text)
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "digits-bn"], "unknown recipe 'digits-bn'; did you mean 'digits-bnn'?"),
        (["build", "digits-bnn", "--device", "ecp6"], "unknown device 'ecp6'"),
        (["compile", "nowhere"], "nowhere is not a build folder: start one with `karui train RECIPE`"),
        (["compare", "nowhere", "a.npy", "b.npy"], "graph.json is missing"),
        (["build", "nowhere.toml"], "there is no recipe file nowhere.toml"),
    ],
)
def test_bad_commands_are_one_clear_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, error = karui(monkeypatch, capsys, *arguments)
    assert code == 1
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_impossible_rate_is_refused(
    built: tuple[BuildFolder, Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = built
    code, error = karui(monkeypatch, capsys, "compile", folder.path, "--frame-rate", "1e9")
    assert code == 1
    assert "initiation interval" in error
    assert not folder.record("compile").exists()


def test_compare_names_the_first_differences(
    built: tuple[BuildFolder, Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = built
    assert karui(monkeypatch, capsys, "compare", folder.path, folder.vectors, folder.vectors)[0] == 0
    with np.load(folder.vectors) as archive:
        outputs = archive["outputs"].copy()
    outputs[5, 0] = (outputs[5, 0] + 1) % 10
    np.save(folder.path / "board.npy", outputs)
    code, error = karui(monkeypatch, capsys, "compare", folder.path, folder.vectors, folder.path / "board.npy")
    assert code == 1
    assert "1 of 360 words differ, in 1 of 360 frames" in error
    assert f"frame 5, word [0]: golden {(outputs[5, 0] - 1) % 10}, got {outputs[5, 0]}" in error


def test_settings_survive_and_are_checked(built: tuple[BuildFolder, Settings]) -> None:
    folder, settings = built
    assert Settings.load(folder) == settings
    document = json.loads(folder.settings.read_text())
    folder.settings.write_text(json.dumps(document | {"sede": 3}))
    with pytest.raises(BuildError, match=r"settings\.json is damaged .*unknown key 'sede'; did you mean 'seed'"):
        Settings.load(folder)


def test_help_teaches() -> None:
    helped = subprocess.run(
        [Path(sys.executable).parent / "karui", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for command in ("recipes", "build", "train", "compile", "simulate", "synthesize", "report", "compare", "fetch"):
        assert command in helped
