"""Sends records as only other clients can: in librdkafka's own interface the name of a header is bytes."""

import ctypes
from collections.abc import Sequence

from tests.mock_cluster import library

_PRODUCER = 0
_END, _TOPIC, _PARTITION, _VALUE, _KEY, _FLAGS, _HEADERS = 0, 1, 3, 4, 5, 7, 10
_COPY = 2
_FLUSH_MS = 10_000
_ERROR_TEXT_BYTES = 512


def send_raw(
    bootstrap_servers: str,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    partition: int = 0,
) -> None:
    """Sends one record and waits until it is acknowledged."""
    calls = library()
    pointer, text = ctypes.c_void_p, ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
    calls.rd_kafka_conf_set.argtypes = [pointer, *[ctypes.c_char_p] * 3, ctypes.c_size_t]
    calls.rd_kafka_headers_new.restype = pointer
    calls.rd_kafka_headers_new.argtypes = [ctypes.c_size_t]
    calls.rd_kafka_header_add.argtypes = [pointer, *[ctypes.c_char_p, ctypes.c_ssize_t] * 2]
    calls.rd_kafka_flush.argtypes = [pointer, ctypes.c_int]
    settings = pointer(calls.rd_kafka_conf_new())
    for name, setting in ((b"bootstrap.servers", bootstrap_servers.encode()), (b"message.max.bytes", b"3000000")):
        assert calls.rd_kafka_conf_set(settings, name, setting, text, len(text)) == 0, text.value
    client = pointer(calls.rd_kafka_new(_PRODUCER, settings, text, len(text)))
    assert client, text.value
    try:
        added = pointer(calls.rd_kafka_headers_new(len(headers)))
        for header, content in headers:
            calls.rd_kafka_header_add(added, header, len(header), content, len(content))
        number, size = ctypes.c_int, ctypes.c_size_t
        error = calls.rd_kafka_producev(
            client,
            *(number(_TOPIC), ctypes.c_char_p(topic.encode())),
            *(number(_PARTITION), ctypes.c_int32(partition)),
            *(number(_VALUE), ctypes.c_char_p(value), size(len(value or b""))),
            *(number(_KEY), ctypes.c_char_p(key), size(len(key or b""))),
            *(number(_FLAGS), number(_COPY)),
            *(number(_HEADERS), added),
            number(_END),
        )
        assert error == 0, f"error {error}"
        assert calls.rd_kafka_flush(client, _FLUSH_MS) == 0
    finally:
        calls.rd_kafka_destroy(client)
