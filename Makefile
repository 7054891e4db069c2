# Two commands bring everything up by themselves: `make demo` and `make test`. What they fetch
# (llama-server and programs that tests drive from Debian's packages, a ClickHouse engine and API
# clients from npm) goes to $XDG_CACHE_HOME/wattline, default ~/.cache/wattline. They say so.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

PREFIX ?= /usr/local
VERSION ?=
GO ?= go
LDFLAGS := -s -w $(if $(VERSION),-X main.release=$(VERSION))
DEMO_FLAGS ?=
BENCH_FLAGS ?=
PEER ?=
BASE ?=
GATE_FLAGS ?=
GROWTH ?= ./meter/... ./sink/attribution ./sink/queries ./cmd/wattline
PEERS_FLAGS ?=
CLIENTS_FLAGS ?=
# NVML's header marks calls as deprecated that its Go binding wraps all the same: a wall of warnings otherwise.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

GOLANGCI := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build demo test truth lint bench bench-proxy bench-sink fuzz soak dialects install uninstall clean

build: bin/wattline ## the binary, in bin/

bin/wattline: FORCE
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/wattline

.PHONY: FORCE
FORCE:

demo: build ## a real llama-server, wattline in front of it, traffic, the rows, the quick benchmark
	bin/wattline demo $(DEMO_FLAGS)

TEST_PROGRAMS := chromium nginx haproxy prometheus promtool systemd-analyze curl python3

test: ## vet, build with and without cgo, every test
	@for p in $(TEST_PROGRAMS); do deploy/debian/fetch.sh $$p >/dev/null || echo "make test: the tests that drive $$p are left out"; done
	@command -v npm >/dev/null || echo "make test: no Node.js with npm: the tests of JavaScript clients and of ClickHouse are left out"
	$(GO) vet ./...
	CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/wattline
	$(GO) test -timeout 40m ./...

soak: mutants ## the tests that take longer than 30 s
	WATTLINE_SOAK=1 $(GO) test -count=1 -timeout 120m -run Soak -v ./...

.PHONY: mutants
mutants: ## small wrong edits, one at a time: does the test that should notice fail? (lists: */testdata/mutants.txt)
	$(GO) run ./deploy/mutants

truth: ## the simulated cards' truth against sampler and ledger: the tables of gpu/SAMPLING.md and meter/energy/LEDGER.md; ~15 min
	$(GO) test ./gpu -count=1 -timeout 60m -v -run Never -cards 3000
	$(GO) test ./meter/energy -count=1 -timeout 60m -v -run TestTruth -mixes 1000

lint: ## golangci-lint, go mod tidy, gofmt
	$(GOLANGCI) run ./...
	$(GO) mod tidy -diff

bench: ## every benchmark
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-sink: ## a million rows: insert rates, bytes by column, time of each query on both engines (Markdown)
	$(GO) test -run '^$$' -bench MillionRows -benchtime 1x -timeout 90m ./sink/queries

bench-proxy: build ## what a hop costs: wattline beside nginx, HAProxy, ReverseProxy and a Go relay; ~10 min
	bin/wattline bench --proxies $(BENCH_FLAGS)

.PHONY: bench-gate bench-growth
bench-gate: ## what an event, a request and a row cost, the working tree against its base: fails above 3 %; ~3 min
	$(GO) run ./deploy/benchgate -base '$(BASE)' $(GATE_FLAGS)

bench-growth: ## how costs grow with rows, routes, devices, prompts and streams: tables with slopes (Markdown); ~20 min
	$(GO) test -run '^$$' -bench Growth -benchtime 1x -timeout 90m $(GROWTH) | tee /dev/stderr | $(GO) run ./deploy/growth

fuzz: ## every fuzz target for FUZZTIME (30s); without the bound, making one input smaller takes all of it
	for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $${FUZZTIME:-30s} -fuzzminimizetime 20x $$pkg; \
	  done; \
	done

.PHONY: peers
peers: build ## llama.cpp's own server tests, direct and through wattline: PEER=.../llama.cpp/tools/server/tests
	$(GO) run ./deploy/peers -peer '$(PEER)' $(PEERS_FLAGS)

.PHONY: clients
clients: build ## real clients of npm through wattline: agent, session and user of each (some GB, once)
	$(GO) run ./deploy/clients $(CLIENTS_FLAGS)

dialects: ## what llama-server says on each route, live, against what the meter reads
	$(GO) test -count=1 -run Dialects -v ./meter/...

install: build ## into $(PREFIX)/bin; upgrading is the same
	install -D -m 0755 bin/wattline $(DESTDIR)$(PREFIX)/bin/wattline

uninstall: ## the binary; rows and caches stay
	rm -f $(DESTDIR)$(PREFIX)/bin/wattline

clean:
	rm -rf bin dist

.PHONY: jaeger
jaeger: ## a real Jaeger v2, built from source once (five CPU minutes), shows the traces of real requests
	WATTLINE_JAEGER=$$(deploy/jaeger/build.sh) $(GO) test -count=1 -run TestJaegerShowsTheWaterfall -v ./cmd/wattline

.PHONY: release
release: ## archives, .deb packages and checksums of VERSION=v1.2.3, in dist/
	deploy/release.sh '$(VERSION)'

.PHONY: release-check
release-check: ## that release twice, each file looked into; arm64 with cgo takes Debian's gcc-aarch64-linux-gnu
	WATTLINE_RELEASE=1 $(GO) test -count=1 -timeout 30m -run TestRelease -v ./deploy
