# language assemblyscript, target preview1, file /module.wasm
ARG WASM_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v asc >/dev/null || npm install --global --no-audit --no-fund assemblyscript@0.28.20

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY package.json ./
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared npm install --no-audit --no-fund
COPY --exclude=**/node_modules --exclude=.git --exclude=build . .
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared export PATH=/src/node_modules/.bin:$PATH; asc assembly/index.ts -o /wasm/module.wasm && touch -d @0 /wasm/module.wasm

FROM scratch
COPY --from=build /wasm/module.wasm /module.wasm
