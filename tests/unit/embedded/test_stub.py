"""Which libpython Triton's stub runs with."""

import os
import sys
from pathlib import Path

import pytest

from consumer.embedded import triton

_BUNDLED = b"\x7fELF..libpython3-419a3a08.13.so.1.0\0libc.so.6\0"


@pytest.mark.parametrize(
    ("program", "there", "expected"),
    [
        pytest.param(
            _BUNDLED, True, b"\x7fELF..libpython3.13.so.1.0\0\0\0\0\0\0\0\0\0\0libc.so.6\0", id="the system's"
        ),
        pytest.param(_BUNDLED, False, _BUNDLED, id="the system has none"),
        pytest.param(b"..libpython3.11.so.1.0\0", True, b"..libpython3.11.so.1.0\0", id="it is the system's already"),
    ],
)
def test_the_stub_runs_with_the_library_of_its_python(
    program: bytes, there: bool, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "servers_environment", lambda: Path(sys.prefix))
    monkeypatch.setattr(triton, "loads", lambda name, _folders: there and name == "libpython3.13.so.1.0")
    wheel, target = tmp_path / "wheel", tmp_path / "stub"
    wheel.write_bytes(program)
    wheel.chmod(0o755)
    triton.lay_out_stub(wheel, target)
    assert target.read_bytes() == expected
    assert len(expected) == len(program)
    assert os.access(target, os.X_OK)
    assert wheel.read_bytes() == program
