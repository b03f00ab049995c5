import os
import sys
from pathlib import Path

import pytest

# Tests run side by side, one process a core: threads of torch in each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).parents[1] / ".." / "shared"


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Let every test repeat: torch's own generator starts from another seed in each process."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets beside the checkout."""
    return _present(SHARED / "data", "real data sets (mnist, fashion-mnist, cifar10)")


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """Folder of reference vectors beside the checkout."""
    return _present(SHARED / "vectors", "published reference vectors")


def _present(folder: Path, what: str) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{what} are not here: ../shared/{folder.name} is missing")
    return folder.resolve()
