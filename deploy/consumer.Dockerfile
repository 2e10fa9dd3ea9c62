# The service without torch, compilers or pip in its environment. Build from the repository root:
#   docker build -f deploy/consumer.Dockerfile -t photo-tagger .
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
COPY requirements/s3.txt requirements/otel.txt requirements/registry.txt /tmp/
# The list is complete, so --no-deps: what is not pinned is not installed. Wheels only: no compiler is needed.
RUN python -m venv --without-pip /opt/tagger \
 && pip --disable-pip-version-check --python /opt/tagger/bin/python install \
        --no-cache-dir --no-deps --only-binary=:all: -r /tmp/s3.txt -r /tmp/otel.txt -r /tmp/registry.txt
COPY deploy/probe /opt/tagger/bin/probe
COPY consumer /opt/tagger/app/consumer
RUN printf '#!/opt/tagger/bin/python\nfrom consumer.cli.main import main\n\nmain()\n' > /opt/tagger/bin/photo-tagger \
 && chmod 755 /opt/tagger/bin/photo-tagger /opt/tagger/bin/probe \
 && /opt/tagger/bin/python -m compileall -q /opt/tagger/app

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tagger
COPY --from=packages /opt/tagger /opt/tagger
ENV PATH=/opt/tagger/bin:$PATH \
    PYTHONPATH=/opt/tagger/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TAGGER_HEALTH__HOST=0.0.0.0
# A tagger.toml mounted here is read.
WORKDIR /etc/photo-tagger
USER 10001:10001
EXPOSE 9400
# /live and not /ready: what restarts unhealthy containers must not restart this one because Kafka, Redis or Triton is
# down.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["probe", "/live"]
ENTRYPOINT ["photo-tagger"]
CMD ["run"]
