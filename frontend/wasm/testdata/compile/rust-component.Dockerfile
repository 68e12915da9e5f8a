# language rust-component, target preview2, file /module.wasm
# world demo:greet/greeter@0.1.0 exports [greet]
ARG WASM_IMAGE=docker.io/library/rust:1.91-bookworm

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN --mount=type=cache,id=zlayer-wasm-cargo-registry,target=/usr/local/cargo/registry,sharing=shared <<'ZLAYER'
set -e
! command -v rustup >/dev/null || rustup target add wasm32-wasip1
command -v cargo-component >/dev/null || cargo install --locked cargo-component@0.21.1
ZLAYER

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=**/target --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-cargo-registry,target=/usr/local/cargo/registry,sharing=shared --mount=type=cache,id=zlayer-wasm-cargo-git,target=/usr/local/cargo/git,sharing=shared --mount=type=cache,id=zlayer-wasm-cargo-target,target=/wasm/target,sharing=locked <<'ZLAYER'
export WASM_WORLD=demo:greet/greeter@0.1.0 CARGO_COMPONENT_WIT_WORLD=demo:greet/greeter@0.1.0 WASM_WIT=/src/wit; set -e
export CARGO_HOME=/usr/local/cargo CARGO_TARGET_DIR=/wasm/target
find . -type f -exec touch {} +
rm -f /wasm/target/wasm32-*/*/*.wasm
cargo component build
find /wasm/target -mindepth 3 -maxdepth 3 -name '*.wasm' | sort >/wasm/results
if [ "$(wc -l </wasm/results)" -gt 1 ]; then
  grep -e /c.wasm -e /c.wasm /wasm/results >/wasm/result || cp /wasm/results /wasm/result
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
