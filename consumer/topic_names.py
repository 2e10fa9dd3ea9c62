"""The names of the topics of one installation. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names of the topics of one installation."""

    uploads: str = "photo-uploads"
    tags: str = "photo-tags"
    dead: str = "photo-uploads.dead"
    retry: str = "photo-uploads.retry"
    releases: str = "photo-releases"

    @property
    def required(self) -> tuple[str, ...]:
        """The topics that a service reads or writes: all."""
        return self.uploads, self.tags, self.retry, self.dead, self.releases
