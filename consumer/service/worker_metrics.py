"""The metrics of several workers on one page: every sample keeps its value and gets the label `worker`.

They are not summed: a sum of counters falls when a worker is replaced, which Prometheus takes for a counter reset, and
a sum of flags such as `tagger_paused` has no meaning. With a series for each worker `sum(rate(...))` is always right.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def merge(pages: Mapping[int, str], own: CollectorRegistry) -> bytes:
    """The pages of the workers (by number) with their label, followed by the metrics of the supervisor.

    Raises:
        ValueError: a page is not Prometheus text.
    """
    families: dict[str, Metric] = {}
    for number, page in sorted(pages.items()):
        for family in text_string_to_metric_families(page):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                merged.samples.append(sample._replace(labels={**sample.labels, "worker": str(number)}))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families.values()))
    return generate_latest(registry) + generate_latest(own)
