# kraken-db as a container: docker build -t kraken-db . && docker run --rm kraken-db --help
#
# It has no database of its own: DATABASE_URL names one. docker-compose.yml starts it together with TimescaleDB.

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md alembic.ini ./
COPY kraken_db kraken_db
COPY alembic alembic
COPY deploy/systemd deploy/systemd
COPY docs/kraken-db.1 docs/kraken-db.1
RUN python -m venv /opt/kraken-db \
 && /opt/kraken-db/bin/pip install --no-cache-dir --disable-pip-version-check '.[metrics,web]'

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home --home-dir /home/krakendb krakendb \
 && install -d -m 700 -o krakendb /var/lib/krakendb
COPY --from=build /opt/kraken-db /opt/kraken-db
ENV PATH=/opt/kraken-db/bin:$PATH \
    XDG_STATE_HOME=/var/lib/krakendb \
    PYTHONUNBUFFERED=1
USER krakendb
WORKDIR /home/krakendb
VOLUME /var/lib/krakendb
# A stop writes what was received: docker stop waits ten seconds, which is enough.
STOPSIGNAL SIGTERM
# Healthy: the database answers, the recordings of it are alive, and nothing has to be looked after.
HEALTHCHECK --interval=60s --timeout=20s --start-period=120s CMD ["kraken-db", "status", "--check"]
ENTRYPOINT ["kraken-db"]
CMD ["record"]
