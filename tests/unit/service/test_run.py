import gc
from typing import cast

import pytest

from consumer.service import run
from consumer.settings import Settings
from consumer.telemetry import Log


class Begun(Exception):
    """The service was made."""


async def test_full_collections_of_garbage_pass_over_what_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*_: object) -> None:
        raise Begun

    monkeypatch.setattr(run, "Service", make)
    try:
        with pytest.raises(Begun):
            await run.run_live(cast("Settings", None), cast("Log", None))
        assert gc.get_freeze_count() > len(gc.get_objects())
    finally:
        gc.unfreeze()
