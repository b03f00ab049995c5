import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_the_code_of_the_document_runs(
    shared_vectors: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "import.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 7
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/import.md", "exec"), names)
    assert capsys.readouterr().out.startswith("FINN-ONNX [7. 2. 1. 0.]\n")
