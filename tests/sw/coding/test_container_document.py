"""The example of docs/container.md."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[3] / "docs" / "container.md"


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert example is not None
    exec(compile(example[1], str(DOCUMENT), "exec"), {})
    size = int(capsys.readouterr().out.split()[0])
    assert size == (tmp_path / "model.karui").stat().st_size
