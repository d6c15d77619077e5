# The lab, and every service by itself: docker build -t working-answers .
#   docker run --rm -p 127.0.0.1:8080:8080 working-answers
#   docker run --rm -p 127.0.0.1:9324:9324 working-answers job-queue serve --listen 0.0.0.0:9324 --store memory:
# Understood by engines without BuildKit too, hence no cache mounts.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
# A C compiler for SQLite and the allocator, which come as source.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked \
        -p lab -p rate-limiter -p lru-cache -p url-shortener \
        -p job-queue -p inventory-locking -p chat-service \
    && mkdir /out \
    && for program in lab rate-limiter lru-cache url-shortener job-queue inventory-locking chat-service; do \
        strip --strip-debug -o /out/$program target/release/$program; \
    done

FROM ${RUNTIME_IMAGE}
COPY --from=build /out/ /usr/local/bin/
# What the lab asks of a real Redis; its questions find a Postgres by INFRA_POSTGRES_URL.
RUN apt-get update && apt-get install --yes --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /data answers
USER 10001
WORKDIR /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# bash opens the connection itself: no curl in the image for this alone.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
# Inside a container only the published port is reachable: publish it to 127.0.0.1.
CMD ["lab", "--listen", "0.0.0.0:8080"]
