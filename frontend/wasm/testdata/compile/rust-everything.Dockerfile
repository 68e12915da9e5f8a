# language rust, target preview2, file /module.wasm
# world demo:greet/greeter@0.1.0 exports [greet]
ARG WASM_IMAGE=docker.io/library/rust:1.91-bookworm
ARG WASM_TOOLS_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN ! command -v rustup >/dev/null || rustup target add wasm32-wasip2

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=**/target --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-cargo-registry,target=/usr/local/cargo/registry,sharing=shared --mount=type=cache,id=zlayer-wasm-cargo-git,target=/usr/local/cargo/git,sharing=shared --mount=type=cache,id=zlayer-wasm-cargo-target,target=/wasm/target,sharing=locked <<'ZLAYER'
export WASM_WORLD=demo:greet/greeter@0.1.0 CARGO_COMPONENT_WIT_WORLD=greeter WASM_WIT=/src/in; set -e
export CARGO_HOME=/usr/local/cargo CARGO_TARGET_DIR=/wasm/target
export CARGO_PROFILE_RELEASE_OPT_LEVEL=2
find . -type f -exec touch {} +
triple=wasm32-wasip2
rustc --print target-list | grep -qx "$triple" || { echo "this Rust knows no $triple: take an image of Rust 1.82 or later, or set wasm.adapter to command or reactor" >&2; exit 1; }
cargo build --target "$triple" --message-format=json-render-diagnostics --locked --release --features x,y >/wasm/messages.json
sed -n '/"reason":"compiler-artifact"/s/.*"filenames":\[\([^]]*\)\].*/\1/p' /wasm/messages.json | tr ',' '\n' |
  sed -n 's/^"\(.*\.wasm\)"$/\1/p' | sort -u >/wasm/results
if [ "$(wc -l </wasm/results)" -gt 1 ]; then
  grep -e /tool.wasm -e /tool.wasm /wasm/results >/wasm/result || cp /wasm/results /wasm/result
  mv /wasm/result /wasm/results
fi
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
RUN jco opt /wasm/in.wasm -o /wasm/module.wasm -- -O2 --enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd && touch -d @0 /wasm/module.wasm

FROM scratch
COPY --from=optimize /wasm/module.wasm /module.wasm
