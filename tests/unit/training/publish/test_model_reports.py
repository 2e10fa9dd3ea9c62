"""The reports of the published versions are those of the versions in git."""

import subprocess
import sys
from pathlib import Path

from training.models.packages import LICENCE, PACKAGES

ROOT = Path(__file__).parents[4]


def test_the_reports_are_of_the_published_versions() -> None:
    argv = [sys.executable, ROOT / "scripts" / "model-reports", "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    names = {path.parent for path in (ROOT / "triton_models").glob("*/*/MANIFEST.json")}
    assert len(names) >= 4
    for version in names:
        page = (ROOT / "docs" / "reports" / f"{version.parent.name}-{version.name}.md").read_text()
        assert "## Gate" in page
        assert (version / "card.md").read_text().partition("\n")[2] in page


def test_every_published_card_states_licence_and_source_of_the_weights_that_training_began_with() -> None:
    package = PACKAGES["efficientnet_lite0"]
    for card in (ROOT / "triton_models").glob("*/*/card.md"):
        missing = [fact for fact in (LICENCE, package.source, package.sha256) if fact not in card.read_text()]
        assert not missing, card
