"""What can go wrong with a demo, apart from the photos that must fail."""

from consumer.errors import TaggerError


class DemoFailed(TaggerError):
    """The demo cannot go on; the message says what happened and where to look."""


class BadFolder(TaggerError):
    """A folder that the user named cannot be used; the message names it and says why."""
