# language typescript, target preview2, file /module.wasm
# world demo:greet/greeter@0.1.0 exports [greet]
ARG WASM_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared <<'ZLAYER'
set -e
command -v jco >/dev/null || npm install --global --no-audit --no-fund @bytecodealliance/jco@1.15.4
command -v esbuild >/dev/null || npm install --global --no-audit --no-fund esbuild@0.25.12
ZLAYER

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=**/node_modules --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared <<'ZLAYER'
export WASM_WORLD=demo:greet/greeter@0.1.0 CARGO_COMPONENT_WIT_WORLD=demo:greet/greeter@0.1.0 WASM_WIT=/src/wit; export PATH=/src/node_modules/.bin:$PATH; set -e
esbuild src/index.ts --bundle --format=esm --platform=neutral --main-fields=module,main '--external:wasi:*' '--external:acme:*' --outfile=/wasm/bundle.js
jco componentize /wasm/bundle.js --wit wit --world-name demo:greet/greeter@0.1.0 -o /wasm/module.wasm
touch -d @0 /wasm/module.wasm
ZLAYER

FROM scratch
COPY --from=build /wasm/module.wasm /module.wasm
