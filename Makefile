# What people and CI run. On a bare Debian or Ubuntu with Go, `make demo` and `make test` install what
# is missing (scripts/install-deps says what and why).

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO_BUILD := go build -ldflags '$(LDFLAGS)'

# the same everywhere, so that building, vetting, linting and testing compile BuildKit only once
export CGO_ENABLED := 0

# packages whose goroutines share something
RACE ?= ./graph/... ./solver/... ./source/... ./store/... ./frontend/... ./engine/... ./cmd/...
TESTFLAGS ?=
FUZZTIME ?= 30s
BENCH ?= .

# what "make frontend-image" calls the image, and what zlayer is told beside: --push, ...
FRONTEND_IMAGE ?= zlayer/frontend:1
FRONTEND_FLAGS ?=

.PHONY: all build frontend-image demo test race lint fuzz bench embed-runc release clean

all: lint test

# a static bin/zlayer, which takes runc from the machine; without -trimpath, so that the tests need not
# compile everything a second time
build:
	$(GO_BUILD) -o bin/zlayer ./cmd/zlayer

# a static bin/zlayer that brings its own runc
release: embed-runc
	$(GO_BUILD) -trimpath -tags embedrunc -o bin/zlayer ./cmd/zlayer

# the image for "# syntax=" lines, with which plain docker builds ZImagefiles
frontend-image: build
	mkdir -p bin/frontend
	GOOS=linux $(GO_BUILD) -o bin/frontend/zlayer ./cmd/zlayer
	bin/zlayer build -f scripts/frontend.Dockerfile -t $(FRONTEND_IMAGE) $(FRONTEND_FLAGS) bin/frontend

embed-runc: engine/daemon/runc.gz
engine/daemon/runc.gz: scripts/embed-runc
	scripts/install-deps embed
	scripts/embed-runc

# a monorepo built twice on the embedded engine, without any image registry
demo:
	scripts/install-deps run
	$(MAKE) --no-print-directory build
	scripts/demo

# every test; what the machine cannot do is skipped, unless ZLAYER_INTEGRATION=1. The longest package goes first, so
# that the others are tested while it waits
test:
	scripts/install-deps run test
	go vet ./...
	go test -timeout 60m $(TESTFLAGS) ./integration ./...

race:
	scripts/install-deps run race
	CGO_ENABLED=1 go test -race -short -timeout 30m $(TESTFLAGS) $(RACE)

lint:
	scripts/install-deps lint
	shellcheck $(filter-out %.Dockerfile,$(wildcard scripts/*)) .ci/run
	scripts/golangci-lint run

# each fuzz target for $(FUZZTIME)
fuzz:
	scripts/fuzz $(FUZZTIME)

bench:
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

clean:
	rm -rf bin engine/daemon/runc.gz
