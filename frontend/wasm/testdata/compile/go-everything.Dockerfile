# language go, target preview1, file /app.wasm
ARG WASM_IMAGE=golang:1.26
ARG WASM_TOOLS_IMAGE=docker.io/library/node:22-bookworm-slim

FROM --platform=$BUILDPLATFORM ${WASM_IMAGE} AS toolchain

FROM toolchain AS build
WORKDIR /wasm
WORKDIR /src
COPY --exclude=.git --exclude=ZImagefile --exclude=dist . .
RUN --mount=type=cache,id=zlayer-wasm-go-build,target=/root/.cache/go-build,sharing=shared --mount=type=cache,id=zlayer-wasm-go-mod,target=/go/pkg/mod,sharing=shared export A='it'\''s' B='$x' WASM_OUTPUT=/wasm/module.wasm; go generate ./...
RUN --mount=type=cache,id=zlayer-wasm-go-build,target=/root/.cache/go-build,sharing=shared --mount=type=cache,id=zlayer-wasm-go-mod,target=/go/pkg/mod,sharing=shared export A='it'\''s' B='$x' WASM_OUTPUT=/wasm/module.wasm; echo 'a b'
RUN --mount=type=cache,id=zlayer-wasm-go-build,target=/root/.cache/go-build,sharing=shared --mount=type=cache,id=zlayer-wasm-go-mod,target=/go/pkg/mod,sharing=shared export A='it'\''s' B='$x' WASM_OUTPUT=/wasm/module.wasm; export GOCACHE=/root/.cache/go-build GOMODCACHE=/go/pkg/mod; GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags a,b -ldflags '-s -w' -o /wasm/module.wasm ./cmd/a && touch -d @0 /wasm/module.wasm
RUN --mount=type=cache,id=zlayer-wasm-go-build,target=/root/.cache/go-build,sharing=shared --mount=type=cache,id=zlayer-wasm-go-mod,target=/go/pkg/mod,sharing=shared <<'ZLAYER'
export A='it'\''s' B='$x' WASM_OUTPUT=/wasm/module.wasm; cat <<EOF
x
EOF
ZLAYER
RUN --mount=type=cache,id=zlayer-wasm-go-build,target=/root/.cache/go-build,sharing=shared --mount=type=cache,id=zlayer-wasm-go-mod,target=/go/pkg/mod,sharing=shared export A='it'\''s' B='$x' WASM_OUTPUT=/wasm/module.wasm; [ -f a ]

FROM --platform=$BUILDPLATFORM ${WASM_TOOLS_IMAGE} AS tools
RUN --mount=type=cache,id=zlayer-wasm-npm,target=/root/.npm,sharing=shared command -v wasm-opt >/dev/null || npm install --global --no-audit --no-fund binaryen@123.0.0

FROM tools AS optimize
COPY --from=build /wasm/module.wasm /wasm/in.wasm
RUN wasm-opt -Os --enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd -o /wasm/module.wasm /wasm/in.wasm && touch -d @0 /wasm/module.wasm

FROM scratch
COPY --from=optimize /wasm/module.wasm /app.wasm
ENTRYPOINT ["/app.wasm"]
