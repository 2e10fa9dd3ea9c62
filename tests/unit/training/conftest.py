"""What tests of runs share: a tiny folder of photos with a recipe, and torch's settings, which training changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.photo_folders import TINY, brand_folders


@pytest.fixture(scope="module", autouse=True)
def _settings_of_torch() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/{acme,bolt,no_logo}, and the recipe tiny.yaml of seconds."""
    place = tmp_path_factory.mktemp("training")
    brand_folders(place / "photos")
    (place / "tiny.yaml").write_text(TINY)
    return place
