"""Channels to Triton's gRPC endpoint: in the clear, or over TLS."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grpc import aio, ssl_channel_credentials

from consumer.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Tls:
    """What a channel over TLS needs, files in PEM.

    `ca` has the authorities that may sign Triton's certificate, by default those that gRPC carries; `certificate` and
    `key` are the client's own, where Triton wants them.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def channel_to(url: str, tls: Tls | None, options: Sequence[tuple[str, int]]) -> aio.Channel:
    """A channel, which connects when it is first used.

    Raises:
        SettingsError: a file cannot be read.
    """
    if tls is None:
        return aio.insecure_channel(url, options=options)
    credentials = ssl_channel_credentials(
        root_certificates=_read("triton.tls_ca", tls.ca),
        private_key=_read("triton.tls_key", tls.key),
        certificate_chain=_read("triton.tls_certificate", tls.certificate),
    )
    return aio.secure_channel(url, credentials, options=options)


def _read(setting: str, path: Path | None) -> bytes | None:
    """A file in PEM; gRPC would say of another one only that the handshake failed.

    Raises:
        SettingsError: it cannot be read, or is none.
    """
    if path is None:
        return None
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}", setting=setting) from None
    if b"-----BEGIN " not in text:
        raise SettingsError(f"{path} is not PEM", setting=setting)
    return text
