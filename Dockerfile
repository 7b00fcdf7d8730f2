# syntax=docker/dockerfile:1
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE NOTICE celeryconfig.py ./
COPY migrations ./migrations
COPY mailbatch ./mailbatch
RUN pip wheel --no-deps --wheel-dir /wheels . \
    && python -m venv /opt/mailbatch \
    && /opt/mailbatch/bin/pip install --constraint constraints.txt "$(ls /wheels/mailbatch-*.whl)[postgres,http,webhook,monitor,otel]"

FROM python:${PYTHON_VERSION}-slim-bookworm
LABEL org.opencontainers.image.title="mailbatch" org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/mailbatch --shell /usr/sbin/nologin mailbatch
COPY --from=build /opt/mailbatch /opt/mailbatch
ENV PATH=/opt/mailbatch/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/mailbatch
STOPSIGNAL SIGTERM
# Exec form: the worker itself gets the signal, and only it. A shell in between would swallow it.
CMD ["celery", "-A", "mailbatch", "worker", "-B", "--concurrency", "2", "--loglevel", "INFO"]
