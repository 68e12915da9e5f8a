# language python, target preview2, file /module.wasm
# world demo:greet/greeter@0.1.0 exports [greet]
# warning: features have no meaning for python
# warning: optimize has no effect on python: the component consists of an interpreter that is optimized already
ARG WASM_IMAGE=docker.io/library/python:3.13-slim-bookworm

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain
RUN --mount=type=cache,id=zlayer-wasm-pip,target=/root/.cache/pip,sharing=shared command -v componentize-py >/dev/null || pip install componentize-py==0.25.1

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY requirements.txt ./
RUN --mount=type=cache,id=zlayer-wasm-pip,target=/root/.cache/pip,sharing=shared pip install --target /wasm/site-packages -r requirements.txt
COPY --exclude=**/.venv --exclude=**/__pycache__ --exclude=**/venv --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-pip,target=/root/.cache/pip,sharing=shared export WASM_WORLD=demo:greet/greeter@0.1.0 CARGO_COMPONENT_WIT_WORLD=demo:greet/greeter@0.1.0 WASM_WIT=/src/wit; componentize-py -d wit -w demo:greet/greeter@0.1.0 componentize app -p src -p /wasm/site-packages -o /wasm/module.wasm && touch -d @0 /wasm/module.wasm

FROM scratch
COPY --from=build /wasm/module.wasm /module.wasm
