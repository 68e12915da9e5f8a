# language go, target preview1, file /module.wasm
ARG WASM_IMAGE=docker.io/library/golang:1.26-bookworm

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=.git . .
RUN --mount=type=cache,id=zlayer-wasm-go-build,target=/root/.cache/go-build,sharing=shared --mount=type=cache,id=zlayer-wasm-go-mod,target=/go/pkg/mod,sharing=shared export GOCACHE=/root/.cache/go-build GOMODCACHE=/go/pkg/mod; GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /wasm/module.wasm b.go main.go && touch -d @0 /wasm/module.wasm

FROM scratch
COPY --from=build /wasm/module.wasm /module.wasm
