# SPDX-License-Identifier: Apache-2.0

# The image for all platforms that Debian and Go have: make image, or
#   docker buildx build --platform=linux/amd64,linux/arm64 --tag=NAME --push .
# The program is built on the builder's own platform. Only the few Debian packages are unpacked on the target's, which
# takes an emulator (binfmt) where that is another.

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git: the program says which revision it was built from.
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags=-s -o /kube-ipvs ./cmd/kube-ipvs

# iptables brings both variants, iptables-nft and iptables-legacy, and kube-ipvs takes that which the node uses. kmod has
# the modprobe that loads ip_vs. Sets, virtual servers, addresses and conntrack need no tools.
FROM debian:bookworm-slim
RUN apt-get update \
	&& apt-get install --yes --no-install-recommends iptables kmod \
	&& rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY --from=build /kube-ipvs /usr/local/bin/kube-ipvs
ENTRYPOINT ["/usr/local/bin/kube-ipvs"]
