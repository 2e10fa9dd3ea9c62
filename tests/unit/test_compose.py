"""docker-compose.yml and the Dockerfiles: what they mean. tests/compose_rules.py has what holds of every service."""

import re
import subprocess
import sys
from fnmatch import fnmatch
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from consumer import __version__
from consumer.settings import HealthSettings, ServiceSettings, load

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
ONE_SHOT = {"topics"}
LONG_RUNNING = sorted(SERVICES.keys() - ONE_SHOT)
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
#: Built for Kubernetes alone, with triton_models/ as its context.
MODELS = ROOT / "deploy/models.Dockerfile"
#: Whose lists the consumer's image installs.
EXTRAS = ("s3", "otel", "registry")

#: What `tritonserver --help` of 2.51 lists, less the deprecated ones.
TRITON_FLAGS = """
    allow-cpu-metrics allow-gpu-metrics allow-grpc allow-http allow-metrics allow-sagemaker allow-vertex-ai
    backend-config backend-directory buffer-manager-thread-count cache-config cache-directory
    cuda-memory-pool-byte-size cuda-virtual-address-size disable-auto-complete-config enable-peer-access
    exit-on-error exit-timeout-secs grpc-address grpc-header-forward-pattern grpc-infer-allocation-pool-size
    grpc-infer-response-compression-level grpc-keepalive-permit-without-calls grpc-keepalive-time
    grpc-keepalive-timeout grpc-max-connection-age grpc-max-connection-age-grace grpc-port grpc-restricted-protocol
    grpc-root-cert grpc-server-cert grpc-server-key grpc-use-ssl grpc-use-ssl-mutual host-policy http-address
    http-header-forward-pattern http-port http-restricted-api http-thread-count id load-model log-error log-file
    log-format log-info log-verbose log-warning metrics-address metrics-config metrics-interval-ms metrics-port
    min-supported-compute-capability model-config-name model-control-mode model-load-gpu-limit
    model-load-retry-count model-load-thread-count model-namespacing model-repository pinned-memory-pool-byte-size
    rate-limit rate-limit-resource repoagent-directory repository-poll-secs reuse-grpc-port reuse-http-port
    strict-readiness trace-config
"""


def environment_of(service: str) -> dict[str, str]:
    return {name: str(value) for name, value in SERVICES[service].get("environment", {}).items()}


def defaulted(text: str) -> str:
    """The text as Compose reads it where no variable is set."""
    return re.sub(r"\$\{[A-Za-z_]+:-([^}]*)\}", r"\1", text)


def pins(path: str) -> dict[str, str]:
    lines = (ROOT / path).read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    python = {"python_version": "3.12"}  # of Triton's image
    return {each.name: str(each.specifier)[2:] for each in wanted if not each.marker or each.marker.evaluate(python)}


def test_every_image_that_is_built_on_is_pinned_to_a_release() -> None:
    named = []
    for dockerfile in DOCKERFILES:
        named += re.findall(r"^ARG \w+_IMAGE=(\S+)$", dockerfile.read_text(), re.MULTILINE)
        assert set(re.findall(r"^FROM (\S+)", dockerfile.read_text(), re.MULTILINE)) <= {
            "${PYTHON_IMAGE}",
            "${TRITON_IMAGE}",
        }
    assert len(named) == 3
    for image in named:
        assert re.search(r":v?\d+\.\d+[\w.-]*$", image), f"{image} is not pinned"


def test_images_that_are_built_here_carry_the_version_of_the_project() -> None:
    built = {service["image"] for service in SERVICES.values() if "build" in service}
    assert built == {f"photo-tagger/consumer:{__version__}", f"photo-tagger/triton:{__version__}"}


def test_the_inference_server_is_not_published() -> None:
    assert "ports" not in SERVICES["triton"]


@pytest.mark.parametrize("service", ["consumer", "topics"])
def test_the_taggers_environment_holds_settings_that_exist(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of(service).items():
        monkeypatch.setenv(name, defaulted(value))
    settings = load()
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.redis.url == "redis://redis:6379/0"
    assert settings.triton.url == "triton:8001"
    assert settings.fetch.schemes == ("https", "file")
    assert settings.fetch.file_root == Path("/photos")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfiles_variables_of_ours_are_settings(dockerfile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in re.findall(r"\b(TAGGER_\w+)=(\S+)", dockerfile.read_text()):
        monkeypatch.setenv(name, value)
    load()


def test_up_wait_ends_well_because_a_running_service_waits_for_each_one_shot() -> None:
    adopted = {
        dependency
        for service in LONG_RUNNING
        for dependency, how in SERVICES[service].get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert adopted == ONE_SHOT


def test_the_tagger_starts_after_what_it_needs_and_counts_as_healthy_once_it_is_ready() -> None:
    consumer = SERVICES["consumer"]
    assert consumer["depends_on"]["redis"] == consumer["depends_on"]["triton"] == {"condition": "service_healthy"}
    assert consumer["healthcheck"]["test"] == ["CMD", "probe", "/ready"]
    assert f'"TAGGER_HEALTH__PORT", "{HealthSettings().port}"' in (ROOT / "deploy/probe").read_text()
    assert consumer["ports"][0].endswith(f":{HealthSettings().port}")


def test_a_health_check_of_the_image_does_not_depend_on_other_services() -> None:
    probe = re.search(r"^HEALTHCHECK .*$", (ROOT / "deploy/consumer.Dockerfile").read_text(), re.MULTILINE)
    assert probe is not None
    assert probe[0].endswith('CMD ["probe", "/live"]')


def test_the_tagger_may_finish_its_photos_before_it_is_killed() -> None:
    assert int(SERVICES["consumer"]["stop_grace_period"].removesuffix("s")) > ServiceSettings().drain_timeout_s + 10


def test_triton_is_given_longer_to_stop_than_it_gives_its_models() -> None:
    (timeout_s,) = [flag.partition("=")[2] for flag in triton_flags() if flag.startswith("--exit-timeout-secs=")]
    assert int(SERVICES["triton"]["stop_grace_period"].removesuffix("s")) > int(timeout_s) >= 30


def test_a_triton_that_hangs_is_started_again_before_up_wait_gives_up() -> None:
    limit = re.fullmatch(r"\$\{TRITON_START_WITHIN_S:-(\d+)\}", SERVICES["triton"]["environment"]["START_WITHIN_S"])
    assert limit is not None
    assert int(SERVICES["triton"]["healthcheck"]["start_period"].removesuffix("s")) > 2 * int(limit[1])
    assert "START_WITHIN_S" in (ROOT / "deploy/serve-models").read_text()


def test_no_image_of_ours_runs_as_root() -> None:
    for dockerfile in DOCKERFILES:
        user = re.findall(r"^USER (\d+):\d+$", dockerfile.read_text(), re.MULTILINE)
        assert user, f"{dockerfile.name} ends as root"
        assert user[-1] != "0"


def hadolint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("hadolint")
    return subprocess.run([tool, "--no-color", dockerfile], capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_passes_hadolint(dockerfile: Path) -> None:
    found = hadolint(dockerfile)
    assert (found.returncode, found.stdout) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && pip install numpy\n")
    assert {"DL3006", "DL3003"} <= set(re.findall(r"DL\d+", hadolint(tmp_path / "Dockerfile").stdout))


def test_the_consumers_image_installs_the_core_list_and_three_extras_and_nothing_else() -> None:
    text = (ROOT / "deploy/consumer.Dockerfile").read_text()
    instructions = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert re.findall(r"-r (\S+)", instructions) == [f"/tmp/{extra}.txt" for extra in EXTRAS]
    lists = [f"requirements/{extra}.txt" for extra in EXTRAS]
    assert f"COPY {' '.join(lists)} /tmp/" in instructions
    # Installed in one go, so a version of one list must be that of the others.
    installed = pins("requirements/core.txt")
    for path in lists:
        assert pins(path).items() >= pins("requirements/core.txt").items()
        installed |= pins(path)
    assert all(pins(path).items() <= installed.items() for path in lists)
    assert "--no-deps" in instructions
    assert not re.search(r"apt-get|gcc|torch", instructions)
    assert not {"torch", "torchvision", "onnx", "onnxruntime"} & installed.keys()


def test_models_run_on_the_versions_that_they_were_tested_with() -> None:
    image, tested = pins("deploy/triton-requirements.txt"), pins("requirements/servers.txt")
    assert {"numpy", "onnxruntime"} <= image.keys()
    assert image.items() <= tested.items()


def test_engines_are_built_with_the_versions_that_training_is_tested_with() -> None:
    image, tested = pins("deploy/engine-requirements.txt"), pins("requirements/training.txt")
    assert {"numpy", "onnx", "pillow", "typer"} <= image.keys()
    assert image.items() <= tested.items()
    assert not {"torch", "onnxruntime", "openvino"} & image.keys()


def test_the_builder_of_engines_has_all_that_its_packages_need() -> None:
    pinned = pins("deploy/engine-requirements.txt").keys()
    for package in pinned:
        needed = [Requirement(text) for text in requires(package) or []]
        missing = {
            canonicalize_name(each.name)
            for each in needed
            if each.marker is None or each.marker.evaluate({"extra": "", "python_version": "3.12"})
        } - pinned
        assert not missing, package


def triton_flags() -> list[str]:
    started = SERVICES["triton"]["command"]
    assert started[0] == "serve-models"
    script = re.findall(r'"(--[\w-]+=)', (ROOT / "deploy/serve-models").read_text())
    return [*script, *started[1:]]


def test_triton_knows_the_flags_that_it_is_given() -> None:
    names = [flag.removeprefix("--").partition("=")[0] for flag in triton_flags()]
    assert set(names) <= set(TRITON_FLAGS.split())


def test_triton_serves_the_cpu_configuration_and_fails_without_both_models() -> None:
    flags = triton_flags()
    assert "--model-config-name=cpu" in flags
    assert "--model-control-mode=explicit" in flags
    assert {"--load-model=photo_quality", "--load-model=brand_logo"} <= set(flags)


def test_triton_closes_what_changes_it_and_leaves_open_what_the_tagger_asks() -> None:
    closed = re.search(r'closed="([\w,-]+):admin-key=\$key"', (ROOT / "deploy/serve-models").read_text())
    assert closed is not None
    assert set(closed[1].split(",")) == {"model-repository", "shared-memory", "trace", "logging"}


def test_redis_keeps_what_it_acknowledged_and_evicts_nothing() -> None:
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"


def test_kafka_makes_no_topic_by_accident() -> None:
    assert environment_of("kafka")["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_kafka_is_reached_on_the_published_port() -> None:
    kafka = environment_of("kafka")
    published, inside = re.fullmatch(r"127\.0\.0\.1:(\d+):(\d+)", defaulted(SERVICES["kafka"]["ports"][0])).groups()
    assert f"HOST://:{inside}" in kafka["KAFKA_LISTENERS"].split(",")
    assert f"HOST://127.0.0.1:{published}" in defaulted(kafka["KAFKA_ADVERTISED_LISTENERS"]).split(",")


@pytest.mark.parametrize("service", ["kafka", "redis"])
def test_data_outlives_the_container(service: str) -> None:
    (volume,) = SERVICES[service]["volumes"]
    assert volume.partition(":")[0] in COMPOSE["volumes"]


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/config",
        ".venv-servers/bin/python",
        ".venv/bin/python",
        "README.md",
        "consumer/embedded/samples/a.jpg",
        "tagger.env",
        "tests/conftest.py",
        "training_data/photo.jpg",
        "triton_models/brand_logo/1/model.onnx",
    ],
)
def test_the_build_context_leaves_out(path: str) -> None:
    assert not in_context(path)


def test_the_build_context_holds_all_that_is_copied() -> None:
    for dockerfile in set(DOCKERFILES) - {MODELS}:
        for source in re.findall(r"^COPY (?!--from)(\S+) ", dockerfile.read_text(), re.MULTILINE):
            assert in_context(f"{source}/cli.py" if (ROOT / source).is_dir() else source), source


def test_the_image_of_the_models_shares_the_base_of_the_consumers() -> None:
    bases = [
        re.findall(r"^ARG PYTHON_IMAGE=.*$", path.read_text(), re.MULTILINE) for path in (MODELS, *DOCKERFILES[:1])
    ]
    assert DOCKERFILES[0].name == "consumer.Dockerfile"
    assert bases[0] == bases[1]
    assert f"-t photo-tagger/models:{__version__} triton_models\n" in MODELS.read_text()


def in_context(path: str) -> bool:
    """What .dockerignore decides: the last pattern that matches the path or a folder above it."""
    names = [path, *map(str, Path(path).parents)][:-1]
    included = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            if any(fnmatch(name, pattern) for name in names):
                included = line.startswith("!")
    return included
