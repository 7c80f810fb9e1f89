# One image for every role: `serve` (with a --target or not), `migrate`, `health`. Built with: docker build -t eventboard .

FROM python:3.13-slim AS python
# The image ships its standard library without bytecode, and a read-only root can't keep what is compiled at a start.
RUN python -m compileall -q -j 0 -x '/(ensurepip|idlelib|lib2to3|pydoc_data|site-packages|test|tkinter|turtledemo)/' \
        /usr/local/lib/python3.13


FROM python AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/eventboard
# What changes seldom comes first. Bytecode that is never checked against its source needs no file times to be kept.
COPY requirements/build.txt requirements/run.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --quiet --require-hashes -r requirements/build.txt \
    && pip --python /opt/eventboard install --quiet --require-hashes -r requirements/run.txt \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/eventboard/lib


FROM build AS program
COPY pyproject.toml LICENSE ./
COPY alembic alembic
COPY config config
COPY src src
# In a root of its own: a layer that holds the program and nothing else.
RUN pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
    && pip --python /opt/eventboard install --quiet --no-cache-dir --no-index --no-deps --root /program /wheel/*.whl \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /program/opt/eventboard/lib


FROM python
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin eventboard
COPY --from=build /opt/eventboard /opt/eventboard
COPY --from=program /program /
# Nothing is safe to guess in production: without its secrets it doesn't start.
ENV PATH=/opt/eventboard/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 EVENTBOARD_ENVIRONMENT=production
# Operators come from other containers; nobody publishes these ports.
ENV EVENTBOARD_SERVER_ADMIN_HOST=0.0.0.0
WORKDIR /
# A number: Kubernetes' runAsNonRoot can't judge a name.
USER 10001:10001
# Of the gateway (and of all in one process), auth and events. Not the operators' ports: `docker run -P` publishes these.
EXPOSE 3000 3001 3002
# Alive, not ready: some orchestrators restart what is unhealthy, and a database that is away is no reason to.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s CMD ["eventboard", "health"]
ENTRYPOINT ["eventboard"]
CMD ["serve"]
