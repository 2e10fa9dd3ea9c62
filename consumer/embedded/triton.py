"""The embedded Triton: the `tritonserver` binary inside the wheel nvidia-pytriton, with its Python backend."""

import contextlib
import ctypes
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from consumer.embedded.paths import (
    free_port,
    incomplete,
    library_path,
    packages_of,
    servers_environment,
    unpacked_folders,
)
from consumer.embedded.process import EmbeddedServerError, GuardianClient, Server, ServerSpec, responds_ok

#: Per model instance; it grows by the same step. Docker gives /dev/shm 64 MB, and two models have two instances each.
_SHM_BYTES = 4 * 1024 * 1024
#: With less, a stub that is still busy is orphaned and its shared memory stays (measured with 3 s under load).
_EXIT_TIMEOUT_S = 30
#: What the wheel's stub for Python 3.13 is linked with; those for older versions ask for the system's library.
_BUNDLED_PYTHON = re.compile(rb"libpython3-[0-9a-f]+\.(\d+)\.so\.1\.0")


class Triton(Server):
    """A Triton that serves a model repository; models can be loaded and unloaded over its API."""

    def __init__(
        self,
        guardian: GuardianClient,
        repository: Path,
        config_name: str,
        models: Sequence[str] | None = None,
        name: str = "triton",
        *,
        options: Sequence[str] = (),
    ) -> None:
        """Chooses free ports; `start` runs it with the given models loaded, all by default, and further `options`.

        `config_name` selects each model's `configs/<config_name>.pbtxt`. If a model fails to load, the start fails.
        """
        self.http_port, grpc_port, metrics_port = free_port(), free_port(), free_port()
        self.grpc_url = f"127.0.0.1:{grpc_port}"
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        server, stub = programs()
        shm_prefix = f"{guardian.folder.name}-{name}-"
        values = {
            "model-repository": repository.absolute(),
            "model-config-name": config_name,
            "model-control-mode": "explicit",
            "strict-readiness": "true",
            "exit-timeout-secs": _EXIT_TIMEOUT_S,
            "http-address": "127.0.0.1",
            "http-port": self.http_port,
            "grpc-address": "127.0.0.1",
            "grpc-port": grpc_port,
            "metrics-address": "127.0.0.1",
            "metrics-port": metrics_port,
            "allow-gpu-metrics": "false",
            "backend-directory": _backends(guardian.folder / name, server, stub),
        }
        argv = [
            str(server),
            "--disable-auto-complete-config",
            *(f"--{key}={value}" for key, value in values.items()),
            *options,
            *(f"--load-model={model}" for model in (_models_in(repository, config_name) if models is None else models)),
            f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
            f"--backend-config=python,shm-default-byte-size={_SHM_BYTES}",
            f"--backend-config=python,shm-growth-byte-size={_SHM_BYTES}",
        ]
        spec = ServerSpec(
            name,
            argv,
            environment_variables(),
            partial(responds_ok, self.http_port, "/v2/health/ready"),
            ready_timeout_s=120.0,
            stop_timeout_s=_EXIT_TIMEOUT_S + 5.0,
            shm_prefix=shm_prefix,
            is_stuck=_has_dead_stub,
        )
        super().__init__(guardian, spec)


def _has_dead_stub(pid: int) -> bool:
    """Whether a child of the server is a zombie: the server waits for an answer that will never come."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text(encoding="ascii").split():
                # The state stands behind the program's name, which is in brackets and may hold any character.
                facts = Path(f"/proc/{child}/stat").read_text(encoding="utf-8", errors="replace")
                if facts.rpartition(") ")[2].startswith("Z"):
                    return True
    return False


def _models_in(repository: Path, config_name: str) -> list[str]:
    if not repository.is_dir():
        message = f"no model repository at {repository}"
        raise EmbeddedServerError(message)
    configs = (Path("config.pbtxt"), Path("configs") / f"{config_name}.pbtxt")
    models = sorted(
        entry.name for entry in repository.iterdir() if any((entry / config).is_file() for config in configs)
    )
    if not models:
        message = f"no model with a configuration {config_name!r} in {repository}"
        raise EmbeddedServerError(message)
    for version in (entry for model in models for entry in (repository / model).iterdir() if entry.name.isdecimal()):
        # Triton hangs over a version without a model until its time-out.
        if not any(entry.is_file() for entry in version.iterdir()):
            message = f"the model version {version} is empty; delete that folder"
            raise EmbeddedServerError(message)
    return models


def programs() -> tuple[Path, Path]:
    """Returns the server's binary and its stub for the Python of the servers' environment.

    Raises:
        EmbeddedServerError: The wheel is not installed, or has no stub for this Python.
    """
    packages, python = packages_of(servers_environment())
    server = packages / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.is_file():
        raise EmbeddedServerError(incomplete(f"Triton with a stub for Python {python}"))
    return server / "bin" / "tritonserver", stub


def _backends(folder: Path, server: Path, stub: Path) -> Path:
    """Lays out a backend folder with the stub beside the backend library; the wheel keeps one stub per Python."""
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    packages, _ = packages_of(servers_environment())
    numpy2 = any(packages.glob("numpy-2.*.dist-info"))
    for file in (server.parents[1] / "backends" / "python").iterdir():
        if numpy2 and file.name == "triton_python_backend_utils.py":
            patch = Path(__file__).with_name("numpy2.py")
            (backend / file.name).write_bytes(file.read_bytes() + b"\n\n" + patch.read_bytes())
        else:
            (backend / file.name).symlink_to(file)
    lay_out_stub(stub, backend / stub.name)
    return backend.parent


def lay_out_stub(stub: Path, target: Path) -> None:
    """Puts the stub there, linked with the system's libpython where there is one.

    A standard library fits only its own libpython: Debian's holds modules such as `_datetime`, which that of the wheel
    looks for in files, so that it cannot import numpy.
    """
    program = stub.read_bytes()
    bundled = _BUNDLED_PYTHON.search(program)
    own = f"libpython3.{int(bundled[1])}.so.1.0" if bundled else ""
    if bundled and loads(own, (_python_libraries(servers_environment()), *unpacked_folders())):
        target.write_bytes(program.replace(bundled[0], own.encode().ljust(len(bundled[0]), b"\0")))
        target.chmod(0o755)
    else:
        target.symlink_to(stub)


def _python_libraries(environment: Path) -> Path:
    """Where the Python that an environment was made from keeps its libraries."""
    return (environment / "bin" / "python").resolve().parents[1] / "lib"


def loads(library: str, folders: Sequence[Path]) -> bool:
    """Whether the dynamic linker finds a library in one of the folders or where the system keeps its own."""
    for candidate in (*(str(folder / library) for folder in folders), library):
        with contextlib.suppress(OSError):
            ctypes.CDLL(candidate)
            return True
    return False


def environment_variables() -> dict[str, str]:
    """Returns the variables that the server runs with, its search path for shared libraries included."""
    # The stub finds its packages through `python3` on PATH, and ignores PYTHONPATH. It needs the wheel's own libraries
    # and libpython; without them it dies, and loading hangs until the stub's time-out.
    environment = servers_environment()
    packages, _ = packages_of(environment)
    env = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}
    env["LD_LIBRARY_PATH"] = library_path(packages / "nvidia_pytriton.libs", _python_libraries(environment))
    # ONNX Runtime's wheels report usage over the network and leave files in the temporary folder unless told not to.
    env["ORT_DISABLE_TELEMETRY"] = "1"
    # Published versions are never changed, not even by a __pycache__.
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    env["PATH"] = os.pathsep.join([str(environment / "bin"), env.get("PATH", os.defpath)])
    return env
