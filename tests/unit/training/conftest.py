"""What tests of runs share: a tiny folder of photos with a recipe, and torch's settings, which training changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.photo_folders import TINY, brand_folders


@pytest.fixture(scope="module")
def torch_settings() -> Iterator[None]:
    """Leaves torch as it was; for modules that train."""
    import torch  # noqa: PLC0415 - most tests here do not need it

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/{acme,bolt,no_logo}, and the recipe tiny.yaml of seconds."""
    place = tmp_path_factory.mktemp("training")
    brand_folders(place / "photos")
    (place / "tiny.yaml").write_text(TINY)
    return place
