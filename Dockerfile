# One image for every part: operator, router agent, Envoy, steps, CLI. Built from wheels that `make images` puts into
# wheels/ (no network is used while building). BASE needs Python 3.11 with venv, git and an ssh client.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
COPY wheels/ /wheels/
RUN python3 -m venv /opt/perennial \
 && /opt/perennial/bin/pip install --no-cache-dir --no-index --no-deps --no-compile /wheels/*.whl \
 && { python3 -m compileall -q -j 2 /opt/perennial/lib || true; } \
 && rm -rf /opt/perennial/lib/python3*/site-packages/pip /opt/perennial/lib/python3*/site-packages/setuptools

FROM ${BASE}
RUN command -v git >/dev/null && command -v ssh >/dev/null \
 || { apt-get update && apt-get install -y --no-install-recommends git openssh-client ca-certificates && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /opt/perennial /opt/perennial
ENV PATH=/opt/perennial/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
USER 65532:65532
ENTRYPOINT ["perennial"]
CMD ["--help"]
