"""The command on data made by code: the three studies that the acceptance tests do not run as a subprocess."""

import json
from pathlib import Path

import pytest

from training.cli.main import app

#: What each page must say, whatever the figures.
SAID = {
    "flickrlogos32": ("Single photos, before and after transfer", "pixels of 0 to 255 in a network without a norm"),
    "bottleneck": ("Pictures from elsewhere", "a bag of classifiers is better than a single one"),
    "openimages": ("weighted avg", "Rebuild from the package of crops, without the photo host"),
}


@pytest.mark.parametrize("name", SAID)
def test_a_study_runs_quickly_on_data_made_by_code(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    with pytest.raises(SystemExit) as ended:
        app(["study", name, "--made", "--quick", *folders])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["study"] == name
    assert "made by code" in told["data"]
    page = (tmp_path / "out" / f"{name}.md").read_text()
    for text in (*SAID[name], "What the article found, and what this run found", "drawings by code"):
        assert text in page
    assert (tmp_path / "out" / f"{name}.html").stat().st_size > 10_000
