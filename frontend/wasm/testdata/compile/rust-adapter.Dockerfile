# language rust, target preview2, file /module.wasm
ARG WASM_IMAGE=docker.io/library/rust:1.91-bookworm
ARG WASM_TOOLS_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN ! command -v rustup >/dev/null || rustup target add wasm32-wasip1

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=**/target --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-cargo-registry,target=/usr/local/cargo/registry,sharing=shared --mount=type=cache,id=zlayer-wasm-cargo-git,target=/usr/local/cargo/git,sharing=shared --mount=type=cache,id=zlayer-wasm-cargo-target,target=/wasm/target,sharing=locked <<'ZLAYER'
set -e
export CARGO_HOME=/usr/local/cargo CARGO_TARGET_DIR=/wasm/target
find . -type f -exec touch {} +
triple=wasm32-wasip1
rustc --print target-list | grep -qx "$triple" || triple=wasm32-wasi # before Rust 1.78
cargo build --target "$triple" --message-format=json-render-diagnostics --release >/wasm/messages.json
sed -n '/"reason":"compiler-artifact"/s/.*"filenames":\[\([^]]*\)\].*/\1/p' /wasm/messages.json | tr ',' '\n' |
  sed -n 's/^"\(.*\.wasm\)"$/\1/p' | sort -u >/wasm/results
if [ "$(wc -l </wasm/results)" -ne 1 ]; then
  echo "the build gives $(wc -l </wasm/results) WebAssembly files and one is needed: set default-run, or default-members in the workspace" >&2
  cat /wasm/results >&2
  exit 1
fi
cp "$(cat /wasm/results)" /wasm/module.wasm
touch -d @0 /wasm/module.wasm
ZLAYER

FROM --platform=$BUILDPLATFORM ${WASM_TOOLS_IMAGE} AS tools
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v jco >/dev/null || npm install --global --no-audit --no-fund @bytecodealliance/jco@1.15.4
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v wasm-opt >/dev/null || npm install --global --no-audit --no-fund binaryen@123.0.0

FROM tools AS optimize
COPY --from=build /wasm/module.wasm /wasm/in.wasm
RUN wasm-opt -Oz --enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd -o /wasm/module.wasm /wasm/in.wasm && touch -d @0 /wasm/module.wasm

FROM tools AS lift
COPY --from=optimize /wasm/module.wasm /wasm/in.wasm
COPY ["adapters/my.wasm", "/wasm/adapter.wasm"]
RUN <<'ZLAYER'
set -e
if [ "$(od -An -tx1 -j4 -N4 /wasm/in.wasm | tr -d ' \n')" != 01000000 ]; then
  cp /wasm/in.wasm /wasm/module.wasm
else
  adapter='--adapt wasi_snapshot_preview1=/wasm/adapter.wasm'
  jco new /wasm/in.wasm $adapter -o /wasm/module.wasm
fi
touch -d @0 /wasm/module.wasm
ZLAYER

FROM scratch
COPY --from=lift /wasm/module.wasm /module.wasm
