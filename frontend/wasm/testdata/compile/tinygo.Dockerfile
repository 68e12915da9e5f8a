# language tinygo, target preview2, file /module.wasm
# world demo:greet/greeter@0.1.0 exports [greet]
ARG WASM_IMAGE=docker.io/tinygo/tinygo:0.39.0
ARG WASM_TOOLS_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-go-build,target=/root/.cache/go-build,sharing=shared --mount=type=cache,id=zlayer-wasm-go-mod,target=/go/pkg/mod,sharing=shared export WASM_WORLD=demo:greet/greeter@0.1.0 CARGO_COMPONENT_WIT_WORLD=demo:greet/greeter@0.1.0 WASM_WIT=/src/wit; export GOCACHE=/root/.cache/go-build GOMODCACHE=/go/pkg/mod; tinygo build -target=wasip2 -no-debug -opt=z -tags t --wit-package ./wit --wit-world demo:greet/greeter@0.1.0 -o /wasm/module.wasm . && touch -d @0 /wasm/module.wasm

FROM --platform=$BUILDPLATFORM ${WASM_TOOLS_IMAGE} AS tools
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v jco >/dev/null || npm install --global --no-audit --no-fund @bytecodealliance/jco@1.15.4
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v wasm-opt >/dev/null || npm install --global --no-audit --no-fund binaryen@123.0.0

FROM tools AS optimize
COPY --from=build /wasm/module.wasm /wasm/in.wasm
RUN jco opt /wasm/in.wasm -o /wasm/module.wasm -- -Oz --enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd && touch -d @0 /wasm/module.wasm

FROM scratch
COPY --from=optimize /wasm/module.wasm /module.wasm
