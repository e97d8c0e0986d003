# SPDX-License-Identifier: Apache-2.0

# Everything here works from a checkout, with Go and make. What touches a kernel runs in the lab (bin/lab): on this
# machine's kernel if it has IPVS, else on a user-mode Linux kernel that needs neither virtualisation nor modules.

export CGO_ENABLED := 0

LAB         := $(CURDIR)/bin/lab
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
UNPARAM     := mvdan.cc/unparam@v0.0.0-20260823230713-2fa3d841b0c8
DEADCODE    := golang.org/x/tools/cmd/deadcode@v0.52.0
FUZZTIME    ?= 10s
PKG         ?= ./internal/kernel/...
RUN         ?= .

# A package needs the lab if its tests ask for a namespace, a world or a rig. All others are tested where make runs.
tests_in_lab = $(shell grep -rlE 'kerneltest\.Namespace|(world|rig)\.New\b' --include='*_test.go' .)
in_lab       = $(patsubst %/,%,$(sort $(dir $(tests_in_lab))))
module       = $(shell go list -m)
outside_lab  = $(filter-out $(patsubst ./%,$(module)/%,$(in_lab)),$(shell go list ./...))

# The race detector needs a C compiler and its library, which a fresh machine may lack.
try_compiler = echo 'int main(void) { return 0; }' | $$(go env CC) -include stdlib.h -x c -o /dev/null - 2>/dev/null
race         = $(eval race := $(shell $(try_compiler) && echo -race))$(race)

.DEFAULT_GOAL := help
.PHONY: help build demo test test-outside test-lab lint bench fuzz kernel-test clean FORCE

help: ## list the targets
	@echo 'make TARGET'
	@echo
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: bin/kube-ipvs bin/lab bin/demo ## build bin/kube-ipvs and the programs that show and test it

bin/kube-ipvs: FORCE
	go build -trimpath -o $@ ./cmd/kube-ipvs

bin/lab bin/demo: bin/%: FORCE
	go build -trimpath -o $@ ./e2e/$*

demo: build ## show kube-ipvs at work on a small cluster (as root; about half a minute)
	@bin/lab --install
	@if test -t 1; then color=--color; fi; bin/lab bin/demo $$color

test: test-outside test-lab ## test all packages, on this machine and in the lab (as root)

# The tests of the lab boot it themselves.
test-outside: bin/lab
	@bin/lab --install
	@test '$(race)' || echo 'There is no C compiler here: testing without the race detector.'
	$(if $(race),CGO_ENABLED=1 )go test -count=1 $(race) $(outside_lab)

# The tests of e2e start the program. Building it in the lab would take minutes.
test-lab kernel-test: export KUBE_IPVS := $(CURDIR)/bin/kube-ipvs

test-lab: bin/lab bin/kube-ipvs
	@bin/lab --install
	go test -count=1 -timeout=20m -exec $(LAB) $(in_lab)

# deadcode prints what no program and no test reaches, and succeeds all the same.
lint: ## check format, vet, staticcheck, code without use, and the modules
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt would change:"; echo "$$files"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...
	go run $(UNPARAM) ./...
	@dead=$$(go run $(DEADCODE) -test ./...) || exit 1; if [ -n "$$dead" ]; then echo "nothing reaches:"; echo "$$dead"; exit 1; fi
	go mod verify
	go mod tidy -diff

bench: bin/lab ## run all benchmarks; those of the kernel in the lab
	@bin/lab --install
	go test -run='^$$' -bench=. -benchmem $(outside_lab)
	go test -run='^$$' -bench=. -benchmem -exec $(LAB) $(in_lab)

fuzz: ## run each fuzz target for FUZZTIME (10s)
	@grep -rnoE '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' . | sed -E 's,^(.*)/[^/]*:[0-9]+:func (.*),\1 \2,' | \
	while read -r package target; do \
		echo "== $$package $$target"; \
		go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) $$package || exit 1; \
	done

kernel-test: bin/lab bin/kube-ipvs ## test in the lab only: make kernel-test PKG=./internal/kernel/ipvs RUN=TestName
	go test -count=1 -v -timeout=20m -exec $(LAB) -run '$(RUN)' $(PKG)

clean: ## remove what was built
	rm -rf bin
