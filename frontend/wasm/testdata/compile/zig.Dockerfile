# language zig, target preview1, file /module.wasm
ARG WASM_IMAGE=docker.io/library/python:3.13-slim-bookworm
ARG WASM_TOOLS_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN --mount=type=cache,id=zlayer-wasm-pip,target=/root/.cache/pip,sharing=shared command -v zig >/dev/null || { pip install ziglang==0.15.1 && printf '#!/bin/sh\nexec python -m ziglang "$@"\n' >/usr/local/bin/zig && chmod +x /usr/local/bin/zig; }

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=**/.zig-cache --exclude=**/zig-cache --exclude=.git --exclude=zig-out . .
RUN --mount=type=cache,id=zlayer-wasm-zig,target=/root/.cache/zig,sharing=shared <<'ZLAYER'
set -e
zig build -Dtarget=wasm32-wasi -Doptimize=ReleaseFast -Dlog=true --prefix /wasm/zig --global-cache-dir /root/.cache/zig
find /wasm/zig -name '*.wasm' | sort >/wasm/results
if [ "$(wc -l </wasm/results)" -ne 1 ]; then
  echo "the build gives $(wc -l </wasm/results) WebAssembly files and one is needed: install one in build.zig" >&2
  cat /wasm/results >&2
  exit 1
fi
cp "$(cat /wasm/results)" /wasm/module.wasm
touch -d @0 /wasm/module.wasm
ZLAYER

FROM --platform=$BUILDPLATFORM ${WASM_TOOLS_IMAGE} AS tools
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v wasm-opt >/dev/null || npm install --global --no-audit --no-fund binaryen@123.0.0

FROM tools AS optimize
COPY --from=build /wasm/module.wasm /wasm/in.wasm
RUN wasm-opt -O3 --enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd -o /wasm/module.wasm /wasm/in.wasm && touch -d @0 /wasm/module.wasm

FROM scratch
COPY --from=optimize /wasm/module.wasm /module.wasm
