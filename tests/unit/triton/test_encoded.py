"""Requests are encoded by hand around their pixels: they must say what the generated class would say."""

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from consumer.triton.inference import encoded


def request_of(shape: list[int]) -> Any:
    request = service_pb2.ModelInferRequest(model_name="photo_quality", model_version="7")
    request.inputs.add(name="images", datatype="UINT8", shape=shape)
    request.outputs.add(name="quality_score")
    return request


# Sizes around those at which the count of bytes takes one, two, three and four bytes.
@pytest.mark.parametrize("side", [1, 6, 7, 73, 74, 230, 836, 837])
@pytest.mark.parametrize("count", [1, 3])
def test_an_encoded_request_is_the_message_with_its_pixels(side: int, count: int) -> None:
    photos = [np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8) for seed in range(count)]
    message = request_of([count, side, side, 3])
    sent = encoded(message, photos)
    message.raw_input_contents.append(b"".join(pixels.tobytes() for pixels in photos))
    assert service_pb2.ModelInferRequest.FromString(sent) == message


def test_pixels_that_are_a_view_of_others_are_sent_in_their_order() -> None:
    turned = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)[:, ::-1]
    found = service_pb2.ModelInferRequest.FromString(encoded(request_of([1, 4, 4, 3]), [turned]))
    assert list(found.raw_input_contents) == [turned.tobytes()]
