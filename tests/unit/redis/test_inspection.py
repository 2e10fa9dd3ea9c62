"""What `doctor` calls of Redis is what its user is documented to need."""

import re
from pathlib import Path

from consumer.redis.inspection import _CACHE_CALLS, _CALLS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "secure.md"


def test_every_documented_permission_is_tried() -> None:
    (user,) = re.findall(r"^user tagger .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name.partition("|")[0] for name in re.findall(r"\+([a-z|]+)", user)}
    keys = set(re.findall(r"~([a-z]):\*", user))
    calls = (*_CALLS, *_CACHE_CALLS)
    # SADD is asked for by a script of its own.
    assert {str(call[0]).lower() for call in calls} | {"ping", "sadd"} == documented
    assert {str(part)[0] for call in calls for part in call[1:] if re.match("[a-z]:", str(part))} == keys
