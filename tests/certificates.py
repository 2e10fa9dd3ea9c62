"""Certificates that openssl makes: an authority, a server and a client that it signed, and another authority."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

#: The client's name, which Kafka takes for its user.
CLIENT = "CN=tagger"


@dataclass(frozen=True)
class Certificates:
    """PEM files: of the server `localhost` and of a client, both signed by `authority`; `other` has signed neither."""

    folder: Path
    authority: Path
    other: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    @property
    def store(self) -> Path:
        """The server's key and certificate in one file, as Kafka reads them."""
        both = self.folder / "store.pem"
        both.write_bytes(self.server_key.read_bytes() + self.server.read_bytes())
        return both


def make_certificates(folder: Path) -> Certificates:
    """Makes all of them, or skips the test without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")

    def made(name: str, subject: str, *options: str | Path) -> tuple[Path, Path]:
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        command: list[str | Path] = [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", f"/{subject}", "-out", certificate, "-keyout", key, *options),
        ]
        subprocess.run(command, check=True, capture_output=True)
        return certificate, key

    authority, authority_key = made("authority", "CN=authority")
    other, _ = made("other", "CN=other")
    signed: tuple[str | Path, ...] = ("-CA", authority, "-CAkey", authority_key, "-addext", "basicConstraints=CA:false")
    server, server_key = made("server", "CN=localhost", *signed, "-addext", "subjectAltName=DNS:localhost")
    client, client_key = made("client", CLIENT, *signed)
    return Certificates(folder, authority, other, server, server_key, client, client_key)
