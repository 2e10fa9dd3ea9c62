"""Runs the commands of photo-trainer on standard input, a line each, in one process, which loads torch once.

A line may send its output to a file with `>`. Writes the exit code of each line as JSON, one a line.
"""

import json
import shlex
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from training.cli.main import app


def run(line: str) -> int:
    words = shlex.split(line, comments=True)[1:]
    to = words[words.index(">") + 1] if ">" in words else None
    text = StringIO()
    with redirect_stdout(text):
        try:
            code = app(words[: words.index(">")] if to else words, standalone_mode=False)
        except SystemExit as error:
            code = error.code
    if to:
        Path(to).write_text(text.getvalue())
    return int(code or 0)


for command in sys.stdin:
    print(json.dumps({"command": command.strip(), "code": run(command)}), file=sys.__stdout__, flush=True)
