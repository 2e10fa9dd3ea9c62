"""Loading of the settings: environment over file over defaults, with clear errors; and listing them."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

from consumer.errors import SettingsError
from consumer.settings.sections import (
    DedupeSettings,
    FetchSettings,
    HealthSettings,
    HostSettings,
    KafkaSettings,
    LogSettings,
    PrepareSettings,
    RedisSettings,
    RetrySettings,
    ServiceSettings,
    TritonSettings,
)

PREFIX: Final = "TAGGER_"
CONFIG_VARIABLE: Final = "TAGGER_CONFIG"
DEFAULT_FILE: Final = Path("tagger.toml")
#: Variables with this prefix that are not settings: the file, the embedded servers, and the mark of a worker.
_OTHER_VARIABLES: Final = frozenset(
    {CONFIG_VARIABLE, "TAGGER_SERVERS_ENV", "TAGGER_CACHE_DIR", "TAGGER_EMBEDDED_RUN", "TAGGER_WORKER"}
)


#: Properties that KIP-848 leaves to the broker; librdkafka refuses a client that sets one of them.
class Settings(BaseSettings):
    """All settings. Build one with `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    dedupe: DedupeSettings = DedupeSettings()
    triton: TritonSettings = TritonSettings()
    fetch: FetchSettings = FetchSettings()
    hosts: HostSettings = HostSettings()
    prepare: PrepareSettings = PrepareSettings()
    service: ServiceSettings = ServiceSettings()
    retry: RetrySettings = RetrySettings()
    health: HealthSettings = HealthSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base class passes everything
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over what `load` passes in from the file; no .env file, no secrets folder."""
        return env_settings, init_settings


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, for `photo-tagger config`."""

    name: str
    value: str
    origin: str
    description: str


def load() -> Settings:
    """The settings in force, from the process's environment and the file.

    Raises:
        SettingsError: the file cannot be read, or a key or a value is wrong; the message names it.
    """
    environ = os.environ
    _refuse_unknown_variables(environ)
    try:
        return Settings(**_from_file(environ)[1])
    except ValidationError as error:
        raise SettingsError(_explain(error, environ)) from None
    except UnreadableVariable as error:
        raise SettingsError(f"settings are wrong: {error}; {error.__cause__}") from None


def rows(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Row]:
    """Every setting in order, with its origin and secrets masked."""
    path, from_file = _from_file(environ)
    shown = []
    for section_name, section in settings:
        for name, field in type(section).model_fields.items():
            variable = variable_of(f"{section_name}.{name}")
            if any(key == variable or key.startswith(f"{variable}__") for key in map(str.upper, environ)):
                origin = f"environment {variable}"
            elif name in from_file.get(section_name, {}):
                origin = f"file {path}"
            else:
                origin = "default"
            value = _masked(getattr(section, name))
            shown.append(Row(f"{section_name}.{name}", value, origin, field.description or ""))
    return shown


def variable_of(name: str) -> str:
    """The environment variable of a setting such as `kafka.group_id`."""
    return PREFIX + name.upper().replace(".", "__")


def mask_url(url: str) -> str:
    """The URL with its password hidden, for logs."""
    return re.sub(r"([?&]password=)[^&]*", r"\1***", re.sub(r"(://[^/@:]*:).*@", r"\1***@", url))


def _masked(value: object) -> str:
    if isinstance(value, dict):
        secret = re.compile("password|secret|key|token|credential|jaas", re.IGNORECASE)
        shown = {
            key: "***" if secret.search(key) and not isinstance(entry, dict) else _masked(entry)
            for key, entry in value.items()
        }
        return ", ".join(f"{key}={entry}" if entry else key for key, entry in shown.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else mask_url(str(value))


def _from_file(environ: Mapping[str, str]) -> tuple[Path | None, dict[str, Any]]:
    named = environ.get(CONFIG_VARIABLE)
    path = Path(named) if named else DEFAULT_FILE
    if not named and not path.is_file():
        return None, {}
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"settings file {path}: {error}") from None


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = {
        variable_of(f"{section}.{name}")
        for section, field in Settings.model_fields.items()
        for name in getattr(field.annotation, "model_fields", ())
    }
    for variable in map(str.upper, environ):
        if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES or variable in known:
            continue
        if not variable.startswith(f"{PREFIX}KAFKA__EXTRA__"):
            raise SettingsError(f"unknown setting {variable} in the environment; `photo-tagger config` lists all")


def _explain(error: ValidationError, environ: Mapping[str, str]) -> str:
    lines = []
    for entry in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in entry["loc"])
        variable = variable_of(".".join(str(part) for part in entry["loc"][:2]))
        place = variable if variable in map(str.upper, environ) else environ.get(CONFIG_VARIABLE, str(DEFAULT_FILE))
        what = "unknown setting" if entry["type"] == "extra_forbidden" else entry["msg"]
        lines.append(f"{name} (from {place}): {what}")
    return "settings are wrong:\n  " + "\n  ".join(lines)
