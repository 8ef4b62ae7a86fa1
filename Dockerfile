# One image for every part: operator, router agent, Envoy, steps, CLI. `make images` puts wheels into wheels/; nothing is
# fetched while building. It is built twice: once with the wheels of requirements-image.lock, and on top of that (as BASE)
# with Perennial's own wheel, so that a change of our code rebuilds and ships a thin layer. Once with all wheels works too.
ARG BASE=docker.io/library/python:3.11-slim-bookworm
FROM ${BASE}
USER 0
RUN command -v git >/dev/null && command -v ssh >/dev/null \
 || { apt-get update && apt-get install -y --no-install-recommends git openssh-client ca-certificates && rm -rf /var/lib/apt/lists/*; }
RUN --mount=type=bind,source=wheels,target=/wheels \
    export PATH=/usr/local/bin:/usr/bin:/bin \
 && { test -x /opt/perennial/bin/python || python3 -m venv --without-pip /opt/perennial; } \
 && python3 -m pip --python /opt/perennial/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl
ENV PATH=/opt/perennial/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
USER 65532:65532
ENTRYPOINT ["perennial"]
CMD ["--help"]
