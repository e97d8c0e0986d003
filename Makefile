# SPDX-License-Identifier: Apache-2.0

# Everything works from a checkout with Go and make. Tests of the kernel run in the lab (bin/lab): on this machine's kernel if it
# has IPVS, else on a user-mode Linux kernel, which needs neither virtualisation nor modules.

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
.PHONY: help build demo test test-outside test-lab e2e cluster-test lint bench bench-render bench-go fuzz kernel-test image image-files image-push image-root clean FORCE

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

test: test-outside test-lab ## test all packages, on this machine and in the lab (as root)

test-outside test-lab kernel-test: export IMAGES := $(CURDIR)/bin/image

# The tests of the lab start it themselves.
test-outside: bin/lab image
	@bin/lab --install
	@test '$(race)' || echo 'There is no C compiler here: testing without the race detector.'
	$(if $(race),CGO_ENABLED=1 )go test -count=1 $(race) $(outside_lab)

# The tests of e2e run the program. Building it in the lab would take minutes.
test-lab kernel-test e2e cluster-test bench-go: export KUBE_IPVS := $(CURDIR)/bin/kube-ipvs

test-lab: bin/lab bin/kube-ipvs image-root
	@bin/lab --install
	go test -count=1 -timeout=20m -exec $(LAB) $(in_lab)

# The real control plane, and kube-proxy. They take minutes to build, once.
upstream := $(addprefix bin/upstream/,etcd kube-apiserver kube-proxy)
stamp     = -X k8s.io/component-base/version.gitVersion=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes)

$(upstream) &: e2e/upstream/go.mod e2e/upstream/go.sum $(wildcard e2e/upstream/*/*.go e2e/upstream/*/*.s)
	@echo 'Building Kubernetes and etcd. This takes some minutes the first time.'
	cd e2e/upstream && go build -trimpath -ldflags="-s -w $(stamp)" -o $(CURDIR)/bin/upstream/ ./etcd ./kube-apiserver tool

e2e cluster-test bench: export UPSTREAM := $(CURDIR)/bin/upstream

e2e: bin/lab bin/kube-ipvs $(upstream) ## test on a real API server and against the real kube-proxy, in the lab (as root)
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

kernel-test: bin/lab bin/kube-ipvs $(if $(findstring e2e/pod,$(PKG)),image-root) ## test in the lab only: make kernel-test PKG=./internal/kernel/ipvs RUN=TestName
	go test -count=1 -v -timeout=20m -exec $(LAB) -run '$(RUN)' $(PKG)

cluster-test: bin/lab bin/kube-ipvs $(upstream) ## the same for what e2e tests: make cluster-test PKG=./e2e/cluster RUN=TestName
	go test -count=1 -v -timeout=20m -exec $(LAB) -run '$(RUN)' $(PKG)

# The images. Two builds of a commit are the same, bit by bit, if they have the same Go, buildah and Debian packages: all times are
# that of the commit, and nothing of the machine is in them.
OUT     ?= bin/image
ARCHS   ?= amd64 arm64
# The release of Debian whose packages are in kube-ipvs-iptables, and where to get them if not at Debian's own place.
DEBIAN  ?= trixie
MIRROR  ?=

images  := kube-ipvs kube-ipvs-iptables
buildah  = buildah --storage-driver=vfs --root=$(abspath $(OUT))/storage --runroot=$(abspath $(OUT))/storage/run

# What a user has chosen for other builds does not count. The checkout may belong to another user: git is asked anyway.
image image-files image-push image-root: export GOFLAGS            :=
image image-files image-push image-root: export GOEXPERIMENT       :=
image image-files image-push image-root: export GOFIPS140          := off
image image-files image-push image-root: export GOAMD64            := v1
image image-files image-push image-root: export GOARM64            := v8.0
image image-files image-push image-root: export GIT_CONFIG_COUNT   := 1
image image-files image-push image-root: export GIT_CONFIG_KEY_0   := safe.directory
image image-files image-push image-root: export GIT_CONFIG_VALUE_0 := *
image image-files image-push image-root: export SOURCE_DATE_EPOCH  ?= $(shell git -c safe.directory='*' log -1 --format=%ct 2>/dev/null || echo 0)

# Installs the Debian packages that have the names of missing programs.
define install
@set --; for p in $1; do command -v $$p >/dev/null || set -- "$$@" $$p; done; test $$# = 0 || { \
	echo "Installing $$* with apt-get"; apt="apt-get -qq --yes --no-install-recommends install"; \
	DEBIAN_FRONTEND=noninteractive $$apt "$$@" >/dev/null || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive $$apt "$$@" >/dev/null; }; }
endef

image-files: $(foreach arch,$(ARCHS),$(OUT)/files/$(arch)/kube-ipvs $(OUT)/files/$(arch)/debian.tar \
	$(OUT)/kube-ipvs-$(arch).spdx.json $(OUT)/kube-ipvs-iptables-$(arch).spdx.json) ## build what is in the images, and their bills of materials

image: image-files ## build the images kube-ipvs and kube-ipvs-iptables into bin/image, for amd64 and arm64 (with buildah; as root)
	$(call install,buildah)
	@rm -rf $(images:%=$(OUT)/%) $(OUT)/storage
	@set -e; export BUILDAH_ISOLATION=chroot; \
	version=$$(go version -m $(OUT)/files/$(firstword $(ARCHS))/kube-ipvs | awk '$$1 == "mod" { print $$3 }'); \
	for image in $(images); do \
		for arch in $(ARCHS); do \
			$(buildah) build --quiet --file=Dockerfile --target=$$image --platform=linux/$$arch --tag=$$image:$$arch \
				--timestamp=$$SOURCE_DATE_EPOCH --identity-label=false --build-arg=VERSION="$$version" \
				--build-arg=REVISION="$$(git rev-parse HEAD 2>/dev/null)" $(OUT)/files >/dev/null; \
		done; \
		$(buildah) manifest create $$image $(ARCHS:%=$$image:%) >/dev/null; \
		$(buildah) manifest push --quiet --all $$image oci:$(OUT)/$$image >/dev/null; \
		sed -E "s,.*\"digest\":\"([^\"]*)\".*,$(OUT)/$$image \1 $$version\n," $(OUT)/$$image/index.json; \
	done; \
	rm -rf $(OUT)/storage

# REGISTRY/kube-ipvs:TAG and REGISTRY/kube-ipvs-iptables:TAG.
image-push: image ## build the images and copy them: make image-push REGISTRY=registry.example/team TAG=v1
	$(call install,skopeo)
	@test -n '$(REGISTRY)' -a -n '$(TAG)' || { echo 'Set REGISTRY and TAG.'; exit 1; }
	@for image in $(images); do skopeo copy --all --preserve-digests $(SKOPEO_FLAGS) oci:$(OUT)/$$image docker://$(REGISTRY)/$$image:$(TAG) || exit; done

# The root file systems of this machine's images, as a container runtime unpacks them, for tests.
image-root: image
	@set -e; rm -rf $(OUT)/root; \
	for image in $(images); do \
		container=$$($(buildah) from --arch=$(shell go env GOARCH) oci:$(OUT)/$$image); \
		mkdir -p $(OUT)/root/$$image; cp -a "$$($(buildah) mount $$container)/." $(OUT)/root/$$image; \
	done; \
	rm -rf $(OUT)/storage

$(OUT)/files/%/kube-ipvs: FORCE
	umask 022; GOOS=linux GOARCH=$* go build -trimpath -buildvcs=$(if $(wildcard .git),true,false) -ldflags=-s -o $@ ./cmd/kube-ipvs

# Debian's packages are unpacked, and not installed: their scripts would have to run on the image's architecture. What dpkg knows of
# them is where scanners look for it in images without dpkg. They are fetched again after half a day, for security updates.
$(OUT)/files/%/debian.tar: FORCE
	$(call install,mmdebstrap)
	@test -n "$$(find $@ -newer Makefile -mmin -720 2>/dev/null)" || { \
		mkdir -p $(@D); echo "Fetching packages of Debian $(DEBIAN) for $*"; umask 022; \
		mmdebstrap --quiet --format=tar --variant=extract --architectures=$* --include=base-files,iptables,ipset,kmod --skip=output/dev \
			--dpkgopt='path-exclude=/usr/share/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-include=/usr/share/common-licenses/*' \
			--dpkgopt='path-exclude=/usr/lib/*/gconv/*' \
			--extract-hook='cd "$$1"/var/cache/apt/archives; mkdir ../../../lib/dpkg/status.d; for p in *.deb; do dpkg-deb --field $$p >../../../lib/dpkg/status.d/$${p%%_*}; done' \
			--customize-hook='rm -r "$$1"/etc/apt "$$1"/etc/dpkg "$$1"/etc/hostname "$$1"/etc/resolv.conf' \
			$(DEBIAN) $@.new $(MIRROR) && mv $@.new $@; }

$(OUT)/kube-ipvs-%.spdx.json: bin/sbom $(OUT)/files/%/kube-ipvs
	bin/sbom -image=kube-ipvs -arch=$* -program=$(OUT)/files/$*/kube-ipvs -out=$@

$(OUT)/kube-ipvs-iptables-%.spdx.json: bin/sbom $(OUT)/files/%/kube-ipvs $(OUT)/files/%/debian.tar
	bin/sbom -image=kube-ipvs-iptables -arch=$* -program=$(OUT)/files/$*/kube-ipvs -debian=$(OUT)/files/$*/debian.tar -out=$@

bin/sbom: FORCE
	go build -trimpath -o $@ ./cmd/sbom

clean: ## remove what was built
	rm -rf bin
