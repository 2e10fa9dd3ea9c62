# The official Triton with ONNX Runtime for its Python backend, which runs the `cpu` configuration of the models, and with
# `photo-trainer engine`, which builds the engines of the `gpu` configuration. Build it from the repository root.
# 26.07 is the first release that has both TensorRT 11 and ONNX Runtime 1.27; the tag stands here and nowhere else.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.07-py3
FROM ${TRITON_IMAGE}
COPY deploy/triton-requirements.txt /tmp/requirements.txt
COPY deploy/engine-requirements.txt /tmp/engine-requirements.txt
# Environments of their own: the system's Python is managed by its distribution and stays untouched.
RUN python3 -m venv --without-pip /opt/models-python \
 && python3 -m pip --disable-pip-version-check --python /opt/models-python/bin/python install \
        --no-cache-dir --no-deps --only-binary=:all: -r /tmp/requirements.txt \
 && python3 -m venv --without-pip /opt/photo-trainer \
 && python3 -m pip --disable-pip-version-check --python /opt/photo-trainer/bin/python install \
        --no-cache-dir --no-deps --only-binary=:all: -r /tmp/engine-requirements.txt
COPY deploy/serve-models /usr/local/bin/serve-models
COPY training /opt/photo-trainer/app/training
# TensorRT's bindings must be of the very version of the library that serves. An image without a GPU's libraries, or with a
# version whose bindings cannot be had, still serves `cpu`; photo-trainer then says what is missing.
RUN version=$(PYTHONPATH=/opt/photo-trainer/app /opt/photo-trainer/bin/python -m training.engine.library) \
 && python3 -m pip --disable-pip-version-check --python /opt/photo-trainer/bin/python install \
        --no-cache-dir --no-deps --only-binary=:all: "tensorrt_cu13_bindings==$version" \
 || echo "no TensorRT bindings: this image cannot build engines for the configuration gpu" >&2
RUN printf '#!/bin/sh\nPYTHONPATH=/opt/photo-trainer/app exec /opt/photo-trainer/bin/python -m training.cli "$@"\n' \
        > /usr/local/bin/photo-trainer \
 && chmod 755 /usr/local/bin/serve-models /usr/local/bin/photo-trainer
# The Python backend takes its packages from the `python3` that it finds on PATH, and ignores PYTHONPATH.
# ONNX Runtime reports usage over the network unless it is told not to.
ENV PATH=/opt/models-python/bin:$PATH ORT_DISABLE_TELEMETRY=1
# A new volume that is mounted here belongs to whom this folder belongs to: the builder of engines.
RUN install -d -o 1000 -g 1000 /engines
USER 1000:1000
CMD ["serve-models", "--model-repository=/models"]
