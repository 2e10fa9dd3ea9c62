# The models as an image, from which Kubernetes fills the volume that Triton serves. Build it from the repository root, but
# with the models as its context:
#   docker build -f deploy/models.Dockerfile -t photo-tagger/models:0.1.0 triton_models
# The consumer's base image: all that is needed is a shell.
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm
FROM ${PYTHON_IMAGE}
COPY . /models
USER 1000:1000
