# language c, target preview1, file /x.wasm
ARG WASM_IMAGE=docker.io/library/debian:bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN command -v clang >/dev/null || [ -x /opt/wasi-sdk/bin/clang ] || { apt-get update && apt-get install -y --no-install-recommends clang lld wasi-libc libclang-rt-dev-wasm32 && rm -rf /var/lib/apt/lists/*; }

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=.git --exclude=out . .
RUN PATH=/opt/wasi-sdk/bin:$PATH; clang --target=wasm32-wasi -o /wasm/module.wasm main.c && touch -d @0 /wasm/module.wasm

FROM scratch AS sources
ARG BUILDKIT_SBOM_SCAN_STAGE=true
COPY --exclude=.git --exclude=out . /

FROM scratch
COPY --from=build /wasm/module.wasm /x.wasm
COPY --from=sources /.zlayer-nothing-at-all* /
