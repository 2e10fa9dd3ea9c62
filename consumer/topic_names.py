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
    #: The runs; the answers of one are in a topic of its own, below this name.
    runs: str = "photo-runs"

    @property
    def required(self) -> tuple[str, ...]:
        """The topics that a service reads or writes."""
        return self.uploads, self.tags, self.retry, self.dead, self.releases

    def answers(self, run_id: str) -> str:
        """The topic of a run's answers."""
        return f"{self.runs}.{run_id}"
