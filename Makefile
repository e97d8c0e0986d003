# SPDX-License-Identifier: Apache-2.0

# Everything works from a checkout with Go and make. Tests of the kernel run in the lab (bin/lab): on this machine's kernel if it
# has IPVS, else on a user-mode Linux kernel, which needs neither virtualisation nor modules. LAB_KERNEL chooses one: bin/lab --help.

export CGO_ENABLED := 0

LAB         := $(CURDIR)/bin/lab
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
UNPARAM     := mvdan.cc/unparam@v0.0.0-20260823230713-2fa3d841b0c8
DEADCODE    := golang.org/x/tools/cmd/deadcode@v0.52.0
FUZZTIME    ?= 10s
PKG         ?= ./internal/kernel/...
RUN         ?= .

# A package needs the lab if its tests use a namespace, a world or a rig, and a real control plane if they use that. All others
# are tested where make runs.
asking      = $(patsubst %/,%,$(sort $(dir $(shell grep -rlE '$1' --include='*_test.go' .))))
in_cluster  = $(call asking,control\.(New|Binary)\b)
in_lab      = $(filter-out $(in_cluster),$(call asking,testkit\.Namespace|(world|rig)\.New\b))
module      = $(shell go list -m)
outside_lab = $(filter-out $(patsubst ./%,$(module)/%,$(in_lab) $(in_cluster)),$(shell go list ./...))

# The race detector needs a C compiler and its library, which may be missing.
try_compiler = echo 'int main(void) { return 0; }' | $$(go env CC) -include stdlib.h -x c -o /dev/null - 2>/dev/null
race         = $(eval race := $(shell $(try_compiler) && echo -race))$(race)

.DEFAULT_GOAL := help
.PHONY: help build demo test test-outside test-lab test-newest test-kernels kernels e2e cluster-test lint bench bench-render bench-go fuzz kernel-test image clean FORCE

help: ## list the targets
	@echo 'make TARGET'
	@echo
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: bin/kube-ipvs bin/lab bin/demo ## build bin/kube-ipvs and the programs that show and test it

bin/kube-ipvs: FORCE
	go build -trimpath -o $@ ./cmd/kube-ipvs

bin/lab bin/demo bin/benchmark: bin/%: FORCE
	go build -trimpath -o $@ ./e2e/$*

demo: build ## show kube-ipvs on a small cluster (as root; about half a minute)
	@bin/lab --install
	@if test -t 1; then color=--color; fi; bin/lab bin/demo $$color

test: test-outside test-lab test-newest ## test all packages, on this machine and in the lab (as root)

# The real helm. It takes minutes to build, once.
bin/helm: e2e/helm/go.mod e2e/helm/go.sum
	cd e2e/helm && go build -trimpath -ldflags='-s -w' -o $(CURDIR)/bin/ helm.sh/helm/v4/cmd/helm

test-outside e2e cluster-test: export HELM := $(CURDIR)/bin/helm

# The tests of the lab start it themselves, with its newest kernel, too.
test-outside: bin/lab bin/helm kernels
	@test '$(race)' || echo 'There is no C compiler here: testing without the race detector.'
	$(if $(race),CGO_ENABLED=1 )go test -count=1 $(race) $(outside_lab)

# The tests of e2e run the program. Building it in the lab would take minutes.
test-lab test-newest test-kernels kernel-test e2e cluster-test bench-go: export KUBE_IPVS := $(CURDIR)/bin/kube-ipvs

test-lab: bin/lab bin/kube-ipvs
	@bin/lab --install
	go test -count=1 -timeout=20m -exec $(LAB) $(in_lab)

# A cell is a kernel of the lab, a firewall of kube-ipvs, and the kind of iptables that is there. NEWEST is like today's nodes.
NEWEST ?= 7/iptables/nft
CELLS  ?= 6.1/iptables/legacy 6.12/iptables/nft 7/iptables/legacy 7/iptables/nft

part       = $(word $2,$(subst /, ,$1))
set_cell   = LAB_KERNEL=$(call part,$1,1) KUBE_IPVS_FIREWALL=$(call part,$1,2) LAB_IPTABLES=$(call part,$1,3)
on_kernels = $(filter ./internal/kernel/% ./e2e/packets,$(in_lab))
test_cell  = $(set_cell) go test -count=1 -timeout=20m -exec $(LAB) $(on_kernels)
KERNELS   ?= $(call part,$(NEWEST),1)

kernels: bin/lab ## build kernels of the lab from Debian's sources, each once: make kernels KERNELS='6.12 7'
	@bin/lab --install
	@for kernel in $(KERNELS); do bin/lab --kernel $$kernel --install || exit 1; done

test-newest: bin/lab bin/kube-ipvs kernels
	$(call test_cell,$(NEWEST))

test-kernels: KERNELS = $(sort $(foreach cell,$(CELLS),$(call part,$(cell),1)))

test-kernels: bin/lab bin/kube-ipvs kernels ## test what depends on the kernel, on each kernel of the lab with each firewall (as root)
	@failed=; $(foreach cell,$(CELLS),echo '== $(cell)'; $(call test_cell,$(cell)) || failed="$$failed $(cell)";) \
	if [ -n "$$failed" ]; then echo "FAILED:$$failed"; exit 1; fi

# The real control plane, and kube-proxy. They take minutes to build, once.
upstream := $(addprefix bin/upstream/,etcd kube-apiserver kube-proxy)
stamp     = -X k8s.io/component-base/version.gitVersion=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes)

$(upstream) &: e2e/upstream/go.mod e2e/upstream/go.sum $(wildcard e2e/upstream/*/*.go e2e/upstream/*/*.s)
	@echo 'Building Kubernetes and etcd. This takes some minutes the first time.'
	cd e2e/upstream && go build -trimpath -ldflags="-s -w $(stamp)" -o $(CURDIR)/bin/upstream/ ./etcd ./kube-apiserver tool

e2e cluster-test bench: export UPSTREAM := $(CURDIR)/bin/upstream

e2e: bin/lab bin/kube-ipvs bin/helm $(upstream) ## test on a real API server and against the real kube-proxy, in the lab (as root)
	@bin/lab --install
	cd e2e/upstream && go test -count=1 -exec $(LAB) ./counter
	go test -count=1 -v -timeout=25m -exec $(LAB) $(in_cluster)

# deadcode prints what no program and no test reaches, and exits with 0.
lint: ## check format, vet, staticcheck, unused code and modules
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt would change:"; echo "$$files"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...
	go run $(UNPARAM) ./...
	@dead=$$(go run $(DEADCODE) -test ./...) || exit 1; if [ -n "$$dead" ]; then echo "nothing reaches:"; echo "$$dead"; exit 1; fi
	go mod verify
	go mod tidy -diff

# SIZES=1000x10,5000x10 PROXIES=kube-ipvs measure less. bin/benchmark run --help lists other flags for BENCH_FLAGS.
bench: export LAB_MEM ?= 6G

bench: bin/lab bin/kube-ipvs bin/benchmark $(upstream) ## measure kube-ipvs and kube-proxy side by side, into docs/benchmarks (as root; two hours)
	@bin/lab --install
	bin/lab bin/benchmark run $(if $(SIZES),-sizes $(SIZES)) $(if $(PROXIES),-proxies $(PROXIES)) $(BENCH_FLAGS)

bench-render: bin/benchmark ## write the page and charts of docs/benchmarks from its results.json
	bin/benchmark render

bench-go: bin/lab bin/kube-ipvs ## run all Go benchmarks; those of the kernel in the lab
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

cluster-test: bin/lab bin/kube-ipvs bin/helm $(upstream) ## the same for what e2e tests: make cluster-test PKG=./e2e/cluster RUN=TestName
	go test -count=1 -v -timeout=20m -exec $(LAB) -run '$(RUN)' $(PKG)

# IMAGE_FLAGS: --platform=linux/amd64,linux/arm64 --push, for more platforms than this one.
IMAGE ?= kube-ipvs:dev

image: ## build the container image IMAGE (with docker and its buildx)
	docker buildx build --tag=$(IMAGE) $(IMAGE_FLAGS) .

clean: ## remove what was built
	rm -rf bin
