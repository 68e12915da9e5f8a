# language go, target preview2, file /module.wasm
ARG WASM_IMAGE=docker.io/library/golang:1.26-bookworm
ARG WASM_TOOLS_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-go-build,target=/root/.cache/go-build,sharing=shared --mount=type=cache,id=zlayer-wasm-go-mod,target=/go/pkg/mod,sharing=shared export GOCACHE=/root/.cache/go-build GOMODCACHE=/go/pkg/mod; GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /wasm/module.wasm . && touch -d @0 /wasm/module.wasm

FROM --platform=$BUILDPLATFORM ${WASM_TOOLS_IMAGE} AS tools
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v jco >/dev/null || npm install --global --no-audit --no-fund @bytecodealliance/jco@1.15.4

FROM tools AS lift
COPY --from=build /wasm/module.wasm /wasm/in.wasm
RUN <<'ZLAYER'
set -e
if [ "$(od -An -tx1 -j4 -N4 /wasm/in.wasm | tr -d ' \n')" != 01000000 ]; then
  cp /wasm/in.wasm /wasm/module.wasm
else
  adapter=--wasi-command
  jco new /wasm/in.wasm $adapter -o /wasm/module.wasm
fi
touch -d @0 /wasm/module.wasm
ZLAYER

FROM scratch
COPY --from=lift /wasm/module.wasm /module.wasm
