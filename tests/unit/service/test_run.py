import gc
from typing import Any

import pytest

from consumer.service import run


class Begun(Exception):
    """The service was made."""


async def test_full_collections_of_garbage_pass_over_what_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*_: object) -> None:
        raise Begun

    monkeypatch.setattr(run, "Service", make)
    nothing: Any = None
    try:
        with pytest.raises(Begun):
            await run.run_live(nothing, nothing)
        assert gc.get_freeze_count() > len(gc.get_objects())
    finally:
        gc.unfreeze()
