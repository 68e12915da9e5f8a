# language c, target preview2, file /module.wasm
ARG WASM_IMAGE=docker.io/library/debian:bookworm-slim
ARG WASM_TOOLS_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN command -v clang >/dev/null || [ -x /opt/wasi-sdk/bin/clang ] || { apt-get update && apt-get install -y --no-install-recommends clang lld wasi-libc libclang-rt-dev-wasm32 && rm -rf /var/lib/apt/lists/*; }

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=.git . .
RUN PATH=/opt/wasi-sdk/bin:$PATH; clang --target=wasm32-wasi -O -s -Isrc -DX=1 -o /wasm/module.wasm src/main.c && touch -d @0 /wasm/module.wasm

FROM --platform=$BUILDPLATFORM ${WASM_TOOLS_IMAGE} AS tools
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v jco >/dev/null || npm install --global --no-audit --no-fund @bytecodealliance/jco@1.15.4
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v wasm-opt >/dev/null || npm install --global --no-audit --no-fund binaryen@123.0.0

FROM tools AS optimize
COPY --from=build /wasm/module.wasm /wasm/in.wasm
RUN wasm-opt -O --enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd -o /wasm/module.wasm /wasm/in.wasm && touch -d @0 /wasm/module.wasm

FROM tools AS lift
COPY --from=optimize /wasm/module.wasm /wasm/in.wasm
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
