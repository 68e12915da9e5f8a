# language assemblyscript, target preview2, file /module.wasm
ARG WASM_IMAGE=docker.io/library/node:22-bookworm-slim
ARG WASM_TOOLS_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v asc >/dev/null || npm install --global --no-audit --no-fund assemblyscript@0.28.20

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=**/node_modules --exclude=.git --exclude=build . .
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared export PATH=/src/node_modules/.bin:$PATH; asc --target release -O --enable simd -o /wasm/module.wasm && touch -d @0 /wasm/module.wasm

FROM --platform=$BUILDPLATFORM ${WASM_TOOLS_IMAGE} AS tools
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v jco >/dev/null || npm install --global --no-audit --no-fund @bytecodealliance/jco@1.15.4

FROM tools AS lift
COPY --from=build /wasm/module.wasm /wasm/in.wasm
RUN <<'ZLAYER'
set -e
if [ "$(od -An -tx1 -j4 -N4 /wasm/in.wasm | tr -d ' \n')" != 01000000 ]; then
  cp /wasm/in.wasm /wasm/module.wasm
else
  if node -e 'process.exit(WebAssembly.Module.exports(new WebAssembly.Module(require("fs").readFileSync("/wasm/in.wasm"))).some((e) => e.name === "_start") ? 0 : 1)'; then adapter=--wasi-command; else adapter=--wasi-reactor; fi
  jco new /wasm/in.wasm $adapter -o /wasm/module.wasm
fi
touch -d @0 /wasm/module.wasm
ZLAYER

FROM scratch
COPY --from=lift /wasm/module.wasm /module.wasm
