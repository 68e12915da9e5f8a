# language tinygo, target preview1, file /module.wasm
ARG WASM_IMAGE=docker.io/tinygo/tinygo:0.39.0
ARG WASM_TOOLS_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-go-build,target=/root/.cache/go-build,sharing=shared --mount=type=cache,id=zlayer-wasm-go-mod,target=/go/pkg/mod,sharing=shared export GOCACHE=/root/.cache/go-build GOMODCACHE=/go/pkg/mod; tinygo build -target=wasip1 -no-debug -opt=2 -o /wasm/module.wasm . && touch -d @0 /wasm/module.wasm

FROM --platform=$BUILDPLATFORM ${WASM_TOOLS_IMAGE} AS tools
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v wasm-opt >/dev/null || npm install --global --no-audit --no-fund binaryen@123.0.0

FROM tools AS optimize
COPY --from=build /wasm/module.wasm /wasm/in.wasm
RUN wasm-opt -O3 --enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd -o /wasm/module.wasm /wasm/in.wasm && touch -d @0 /wasm/module.wasm

FROM scratch
COPY --from=optimize /wasm/module.wasm /module.wasm
