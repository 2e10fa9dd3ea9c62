from dataclasses import replace

from consumer.contract import Geometry
from consumer.service import contract_watch
from tests.fakes import CONTRACT, RecordingLog


def test_the_log_names_the_input_size_of_each_model() -> None:
    log = RecordingLog()
    contract_watch.report(replace(CONTRACT, brand_geometry=Geometry(96, 104)), log)
    (line,) = log.named("contract.read")
    assert line["input_sizes"] == {"photo_quality": 32, "brand_logo": 96}
