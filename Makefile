# What is run on spool, and how. `make help` prints the targets.

SHELL       := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c

GO        ?= go
FUZZTIME  ?= 20s
BENCH     ?= .
COUNT     ?= 6
PEERFLAGS ?=
RACEFLAGS ?=
PAGINGFLAGS ?=
TORTUREFLAGS ?=
MUTANTFLAGS ?=
N         ?= 10000000
PLATFORMS := linux/amd64 linux/arm64 linux/386 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

# Every directory with a go.mod, the root first; found, so that a new module cannot be forgotten.
MODULES = $(sort $(patsubst %/go.mod,%,$(shell find . -name go.mod -not -path '*/testdata/*' -not -path '*/vendor/*')))

.DEFAULT_GOAL := help
.PHONY: help check static fmt vet staticcheck cross tidy vuln test race paging cover mutants backlog browser fuzz fuzz-list torture torture-ci bench bench-baseline bench-compare bench-peers bench-servers

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: static vuln race paging fuzz ## everything a change must pass besides the tests: static, vuln, race, paging, fuzz

static: fmt vet staticcheck cross tidy ## what needs no test to run: fmt, vet, staticcheck, cross, tidy

fmt: ## every Go file is as gofmt writes it
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then printf 'not formatted:\n%s\n' "$$files"; exit 1; fi

vet: ## go vet in every module
	@for dir in $(MODULES); do echo "go vet ./... ($$dir)"; (cd "$$dir" && $(GO) vet ./...); done

staticcheck: ## staticcheck, pinned in tools/go.mod
	@for dir in $(filter-out ./tools,$(MODULES)); do \
		echo "staticcheck ./... ($$dir)"; \
		(cd "$$dir" && $(GO) tool -modfile=$(CURDIR)/tools/go.mod staticcheck ./...); \
	done

cross: ## build and vet for every platform we say something about
	@for platform in $(PLATFORMS); do \
		echo "build and vet $$platform"; \
		export GOOS="$${platform%/*}" GOARCH="$${platform#*/}" CGO_ENABLED=0; \
		$(GO) build ./... && $(GO) vet ./...; \
	done

tidy: ## go.mod and go.sum of every module hold what is needed, nothing else
	@for dir in $(MODULES); do echo "go mod tidy -diff ($$dir)"; (cd "$$dir" && $(GO) mod tidy -diff); done

# govulncheck exits with 3 when it has found something, and with 1 when it could not look.
vuln: ## known vulnerabilities in what is called, where the database (vuln.go.dev) can be reached
	@for dir in $(filter-out ./tools,$(MODULES)); do \
		cd "$(CURDIR)/$$dir"; code=0; \
		out=$$($(GO) tool -modfile=$(CURDIR)/tools/go.mod govulncheck ./... 2>&1) || code=$$?; \
		case "$$code $$out" in \
			0*) echo "govulncheck ./... ($$dir): nothing that is called" ;; \
			1*"fetching vulnerabilities"*) echo "govulncheck: NOT CHECKED, the database cannot be reached: $${out##*: }"; exit 0 ;; \
			*) echo "govulncheck ./... ($$dir)"; echo "$$out"; exit 1 ;; \
		esac; \
	done

test: ## the tests: go test ./...
	$(GO) test ./...

race: ## the tests under the race detector, in random order, long ones in their short form
	$(GO) test $(RACEFLAGS) -race -short -shuffle=on -timeout 12m ./...

paging: ## the tests of the root package with every block put out of memory as soon as it may
	SPOOL_TEST_PAGING=1 $(GO) test $(PAGINGFLAGS) -short -timeout 12m .

# What runs at random, or in other processes, takes one branch today and another one tomorrow: it does not count.
COVERSKIP = Simulation|Model|Kill|Power|FullDisk|Inject|Soak|Storm|Backlog|Example|TestReopen|CleanRandom|RepairDamage|Reliability

cover: ## every error branch of commit, recovery, checkpoint and cleaning is taken by a test, or stands in internal/cover/exceptions.txt
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(GO) test -short -skip '$(COVERSKIP)' -coverpkg=.,./store/... -coverprofile="$$dir/root" . \
		-args -spool.fault.dense=8 -spool.damage.seed=1 -spool.inner.seed=1; \
	$(GO) test -short -coverpkg=./store/... -coverprofile="$$dir/store" ./store -args -commit.seed=1; \
	$(GO) test -short -coverpkg=./store/... -coverprofile="$$dir/seglog" ./store/seglog -args -crash.seed=1; \
	$(GO) run ./internal/cover "$$dir/root" "$$dir/store" "$$dir/seglog"

backlog: ## N messages (10 million) in each state, within a budget of 32 MB: memory, disk and times
	$(GO) test -run 'TestBacklog' -count=1 -timeout 60m -v . -args -spool.backlog.n=$(N) | grep --line-buffered -v '^=== '

browser: ## what the console's tests in a browser need
	@command -v chromium >/dev/null || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; }

# Two targets at a time, with one worker each: the seeds of a target are run by one worker, whatever there is. Each package is
# built once, not for each of its targets.
# When its time is over while it works, go test -fuzz sometimes fails with nothing but "context deadline exceeded".
define FUZZ_ONE
cd "$$1"; binary=$$2 package=$$3 target=$$4
fuzz() { "$$binary" -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) -test.parallel 1 -test.paniconexit0 \
	-test.fuzzcachedir "$$($(GO) env GOCACHE)/fuzz/$$package" </dev/null 2>&1; }
out=$$(fuzz) || case "$$out" in *"Failing input"*) false ;; *"context deadline exceeded"*) out=$$(fuzz) ;; *) false ;; esac || { echo "fuzz $$package $$target: $$out"; exit 1; }
echo "fuzz $$package $$target: $$(echo "$$out" | tail -3)"
endef
export FUZZ_ONE

# Lines of directory and target: all, or those that FUZZ matches.
FUZZ = .
FUZZ_LIST = grep -rHo --include='*_test.go' '^func Fuzz[[:alnum:]]*' . | sed 's|/[^/]*:func | |' | sort | grep -E '$(FUZZ)'

fuzz-list:
	@$(FUZZ_LIST)

fuzz: ## each fuzz target for FUZZTIME (20s), two at a time; FUZZ='^./timer ' those of one package
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; $(FUZZ_LIST) >"$$tmp/list"; \
	cut -d' ' -f1 "$$tmp/list" | uniq | while read -r dir; do \
		cd "$(CURDIR)/$$dir"; package=$$($(GO) list .); binary=$$tmp/$${package//\//-}.test; \
		$(GO) test -c -fuzz=. -o "$$binary" .; \
		awk -v dir="$$dir" -v built="$$binary $$package" '$$1 == dir { print dir, built, $$2 }' "$$tmp/list"; \
	done >"$$tmp/targets"; \
	xargs -P 2 -L 1 bash -c "$$FUZZ_ONE" fuzz <"$$tmp/targets"

torture-ci: ## each row of docs/reliability.md once, in its short form; TORTUREFLAGS=-record to keep the numbers
	$(GO) run ./internal/torture -ci $(TORTUREFLAGS)

torture: ## each row of docs/reliability.md in full, recorded; takes days, can be stopped and started again
	$(GO) run ./internal/torture $(TORTUREFLAGS)

mutants: ## would the tests notice? mistakes in a copy of the library, one at a time: an hour (MUTANTFLAGS: -run receipt, -shard 1/4, -quick …)
	$(GO) run ./internal/mutants $(MUTANTFLAGS)

bench: ## the benchmarks that match BENCH (all)
	$(GO) test -run '^$$' -bench '$(BENCH)' ./...

# Each of the COUNT samples is one round, so that benchstat sees how far they lie apart. What the first lines tell is for
# people: benchstat passes over them.
BENCHRUN = $(GO) test -run '^$$' -bench '$(BENCH)' -count $(COUNT) -timeout 120m ./bench -spool.rounds 1

bench-baseline: ## measure spool and keep it as bench/baseline.txt: COUNT (6) samples, on a machine that does nothing else
	@{ printf '# %s\n' "$(BENCHRUN)" "$$(git describe --always --dirty), $$(date -u +%F)" \
		"$$(uname -srm), $$(nproc) cores,$$(sed -n 's/^model name[^:]*:/ /p' /proc/cpuinfo | head -1), $$($(GO) version)" \
		"$$(df --output=fstype "$${TMPDIR:-/tmp}" | tail -1) at $${TMPDIR:-/tmp}"; } >bench/baseline.out
	$(BENCHRUN) | tee -a bench/baseline.out
	@mv bench/baseline.out bench/baseline.txt

bench-compare: ## measure spool and compare it with bench/baseline.txt
	$(BENCHRUN) | tee bench/compare.out
	$(GO) tool -modfile=tools/go.mod benchstat baseline=bench/baseline.txt now=bench/compare.out

bench-peers: bench-servers ## measure spool beside other systems: table and pictures in bench/results (PEERFLAGS: -full, -rounds 1, -scale 0.02 …)
	@mkdir -p bench/results
	cd bench/peers && $(GO) run . -out ../results $(PEERFLAGS)

bench-servers: # what bench-peers needs besides Go: installed if that is possible, otherwise named
	@for package in redis-server beanstalkd; do \
		command -v $$package >/dev/null && continue; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$package || true; \
		fi; \
		command -v $$package >/dev/null || echo "$$package is not installed (Debian and Ubuntu: apt-get install $$package); it is left out"; \
	done
	@command -v cc >/dev/null || echo "there is no C compiler: SQLite is measured through modernc.org/sqlite only"
