# syntax=docker/dockerfile:1
# For an image that never changes: --build-arg BASE=python:3.12-slim-bookworm@sha256:…
ARG PYTHON_VERSION=3.12
ARG BASE=python:${PYTHON_VERSION}-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# Packages are installed only from a lock file with hashes (`make lock`).
COPY deploy/image/build.txt deploy/image/requirements.txt ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-deps --require-hashes --only-binary :all: --requirement build.txt \
    && python -m venv /opt/mailbatch \
    && /opt/mailbatch/bin/pip install --no-deps --require-hashes --only-binary :all: --requirement requirements.txt
COPY pyproject.toml README.md CHANGELOG.md LICENSE NOTICE celeryconfig.py ./
COPY migrations ./migrations
COPY mailbatch ./mailbatch
RUN /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels . \
    && /opt/mailbatch/bin/pip install --no-deps --no-index /wheels/mailbatch-*.whl \
    && /opt/mailbatch/bin/pip check

FROM ${BASE}
LABEL org.opencontainers.image.title="mailbatch" org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/mailbatch --shell /usr/sbin/nologin mailbatch
COPY --from=build /opt/mailbatch /opt/mailbatch
ENV PATH=/opt/mailbatch/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/mailbatch
STOPSIGNAL SIGTERM
# Exec form, so that the worker gets the signal. A shell would not pass it on.
CMD ["celery", "-A", "mailbatch", "worker", "-B", "--concurrency", "2", "--loglevel", "INFO"]
