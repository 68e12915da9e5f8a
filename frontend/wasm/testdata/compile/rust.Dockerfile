# language rust, target preview2, file /module.wasm
ARG WASM_IMAGE=docker.io/library/rust:1.91-bookworm

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN ! command -v rustup >/dev/null || rustup target add wasm32-wasip2

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=**/target --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-cargo-registry,target=/usr/local/cargo/registry,sharing=shared --mount=type=cache,id=zlayer-wasm-cargo-git,target=/usr/local/cargo/git,sharing=shared --mount=type=cache,id=zlayer-wasm-cargo-target,target=/wasm/target,sharing=locked <<'ZLAYER'
set -e
export CARGO_HOME=/usr/local/cargo CARGO_TARGET_DIR=/wasm/target
find . -type f -exec touch {} +
triple=wasm32-wasip2
rustc --print target-list | grep -qx "$triple" || { echo "this Rust knows no $triple: take an image of Rust 1.82 or later, or set wasm.adapter to command or reactor" >&2; exit 1; }
cargo build --target "$triple" --message-format=json-render-diagnostics >/wasm/messages.json
sed -n '/"reason":"compiler-artifact"/s/.*"filenames":\[\([^]]*\)\].*/\1/p' /wasm/messages.json | tr ',' '\n' |
  sed -n 's/^"\(.*\.wasm\)"$/\1/p' | sort -u >/wasm/results
if [ "$(wc -l </wasm/results)" -gt 1 ]; then
  grep -e /my-app.wasm -e /my_app.wasm /wasm/results >/wasm/result || cp /wasm/results /wasm/result
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

FROM scratch
COPY --from=build /wasm/module.wasm /module.wasm
