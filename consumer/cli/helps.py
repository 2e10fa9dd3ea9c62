"""The end of each command's help: examples that work as they stand here, and its exit codes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import typer

_ASKS: Final = {3: "wrong settings or options", 5: "a server does not answer, or refuses"}
_LOCAL: Final = {3: "wrong settings or options"}


class Help(NamedTuple):
    """Worked examples, each without the name of the program, and what exit codes beside 0 mean."""

    examples: tuple[str, ...]
    codes: Mapping[int, str] = _ASKS


_NO_RUN: Final = {**_ASKS, 6: "there is no such run"}
_ENDED: Final = {**_NO_RUN, 8: "the run has ended"}
_BEGINS: Final = {
    **_ASKS,
    4: "the models do not fit",
    6: "a version is not loaded, or no record is meant",
    8: "it is in force, or there is a run of this name",
}
_REFUSED: Final = {**_ASKS, 8: "refused, and nothing was changed"}

#: By the command's path.
HELPS: Final[Mapping[str, Help]] = {
    "run": Help(("run", "run --workers 2"), {**_ASKS, 4: "the models do not fit", 7: "a decode hangs"}),
    "config": Help(("config", "config --json | grep kafka"), _LOCAL),
    "topics": Help(("topics", "topics --partitions 16 --replication 3 --wait-s 60")),
    "send": Help(("send https://photos.example.org/beach-17.jpg", "send beach-17 --id beach-17 --delete")),
    "tags": Help(("tags beach-17", "tags beach-17 beach-18 --wait-s 20"), {**_ASKS, 6: "one of them has no tags"}),
    "find": Help(("find northpeak", "find --level 5 --since 2h", "find northpeak southpeak --limit 5")),
    "brands": Help(("brands", "brands --json")),
    "replay": Help(
        ("replay --from 2h", "replay --from 2026-11-21T10:00:00Z --to now --name monday"),
        {1: "stopped before its end", **_ASKS},
    ),
    "schemas": Help(
        ("schemas", "schemas --output schemas", "schemas --register"),
        {**_ASKS, 8: "the registry takes no such change of a schema"},
    ),
    "demo": Help(("demo", "demo --photos holiday --keep"), {1: "a server does not start", **_LOCAL}),
    "web": Help(("web", "web --port 0 --allow-changes"), {1: "it cannot listen there", **_LOCAL}),
    "version": Help(("version",), {}),
    "check": Help(
        ("check beach.jpg", "check https://photos.example.org/beach-17.jpg --json"),
        {3: "wrong settings or options, or a file that cannot be read", 5: "unavailable for now", 8: "it is rejected"},
    ),
    "doctor": Help(
        ("doctor", "doctor --verbose", "doctor --wait-s 5 --json"),
        {1: "something fails", 3: "wrong settings or options", 5: "a server does not answer"},
    ),
    "lag": Help(("lag", "lag --json")),
    "ready": Help(("ready", "ready --wait-s 60"), {3: "wrong settings or options", 5: "it is not ready"}),
    "status": Help(("status beach-17", "status beach-17 --json"), {**_ASKS, 6: "it was never seen"}),
    "sizing": Help(("sizing --photos-per-s 200", "sizing --photos-per-s 200 --photos 5e7 --triton-ms 2"), _LOCAL),
    "rebuild": Help(("rebuild --check", "rebuild"), {1: "Redis differs, or a foreign key is in the way", **_ASKS}),
    "sweep": Help(("sweep", "sweep --execute")),
    "dlq list": Help(("dlq list", "dlq list --reason http_5xx --since 2h")),
    "dlq show": Help(("dlq show 0/17",), {**_ASKS, 6: "there is no such letter"}),
    "dlq retry": Help(
        ("dlq retry --reason http_5xx", "dlq retry --reason http_5xx --execute"), {1: "interrupted", **_ASKS}
    ),
    "models list": Help(("models list", "models list --json")),
    "models load": Help(("models load brand_logo 3",), {1: "Triton cannot load it", **_ASKS}),
    "models verify": Help(("models verify brand_logo 3",), {1: "an answer or a file differs", **_ASKS}),
    "models promote": Help(
        ("models promote --brand 3 --reason 'new brands'", "models promote --good-threshold 0.6 --reason stricter"),
        {**_REFUSED, 4: "the models do not fit", 6: "a version is not loaded"},
    ),
    "models rollback": Help(
        ("models rollback --reason 'too many false brands'", "models rollback --to 4 --reason 'as in May'"),
        {**_ASKS, 4: "the models do not fit", 6: "no such release, or a version is not loaded"},
    ),
    "models retire": Help(("models retire brand_logo 2",), _REFUSED),
    "models releases": Help(("models releases", "models releases --json")),
    "runs start": Help(
        (
            "runs start --brand 3 --from 7d --reason 'try the new brands'",
            "runs start --quality 2 --ids ids.txt --reason 'the disputed ones' --dry-run",
        ),
        _BEGINS,
    ),
    "runs retag": Help(("runs retag --good-threshold 0.6 --reason 'stricter, as agreed'",), _BEGINS),
    "retag": Help(("retag --good-threshold 0.6 --reason 'stricter, as agreed'",), _BEGINS),
    "runs list": Help(("runs list", "runs list --json")),
    "runs show": Help(("runs show may-brands",), _NO_RUN),
    "runs work": Help(("runs work may-brands",), {1: "stopped before its end", **_ENDED}),
    "runs pause": Help(("runs pause may-brands",), _ENDED),
    "runs resume": Help(("runs resume may-brands",), _ENDED),
    "runs cancel": Help(("runs cancel may-brands",), _ENDED),
    "runs diff": Help(("runs diff may-brands", "runs diff may-brands --output reports"), _NO_RUN),
    "runs promote": Help(
        ("runs promote may-brands --reason 'as compared'",),
        {1: "not all was applied", **_NO_RUN, 8: "its gates do not hold"},
    ),
    "runs rollback": Help(
        ("runs rollback may-brands --reason 'complaints'",), {1: "not all was applied", **_NO_RUN, 8: "refused"}
    ),
    "runs delete": Help(("runs delete may-brands",), {**_NO_RUN, 8: "it cannot be deleted now"}),
}


def add_helps(app: typer.Typer) -> None:
    """Puts the ends of the helps below the commands of an application."""
    for path, command in commands_of(app):
        if path in HELPS:
            command.epilog = epilog_of(HELPS[path])


def commands_of(app: typer.Typer, before: str = "") -> Iterator[tuple[str, Any]]:
    """The commands of an application and of its groups.

    Yields:
        The path of each, and what typer knows of it.
    """
    for command in app.registered_commands:
        callback: Any = command.callback
        yield before + (command.name or callback.__name__.rstrip("_").replace("_", "-")), command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            name = group.name if isinstance(group.name, str) else ""
            yield from commands_of(group.typer_instance, f"{before}{name} " if name else before)


def epilog_of(one: Help) -> str:
    """The text, a paragraph for each line."""
    examples = [f"photo-tagger {example}" for example in one.examples]
    codes = ", ".join(f"{code} {meaning}" for code, meaning in sorted({0: "done", **one.codes}.items()))
    return "\n\n".join(["Examples:", *examples, f"Exit codes: {codes}."])
