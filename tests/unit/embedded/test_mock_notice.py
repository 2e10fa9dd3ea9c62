"""What the note on the mock broker advises."""

from consumer.embedded.mock_kafka import MARK, notice_of


def test_only_what_is_missing_is_to_be_installed() -> None:
    assert notice_of(["maven"]).endswith("apt-get install -y maven")
    nothing = notice_of([])
    assert "apt-get" not in nothing
    assert "--kafka real" in nothing
    assert nothing.startswith(MARK)
