"""The ten lines of the README run as they stand there."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_ten_lines_compile_and_simulate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    lines = code[1].strip().splitlines()
    assert len([line for line in lines if line]) <= 10
    # Placing and routing has tests of its own; here it would take the better part of a minute.
    placed = [line for line in lines if "synthesize" in line]
    assert len(placed) == 1
    monkeypatch.chdir(tmp_path)
    exec("\n".join(line for line in lines if line not in placed), {})
    assert "mismatches=0" in capsys.readouterr().out
    assert (tmp_path / "out/mine/rtl/accelerator.v").is_file()
