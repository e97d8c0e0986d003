# SPDX-License-Identifier: Apache-2.0

# Builds the image with make image, or for any platforms of Debian and Go:
#   docker buildx build --platform=linux/amd64,linux/arm64 --tag=NAME --push .
# The program is built on the builder's platform. The Debian packages are unpacked on the target's platform, which needs an
# emulator (binfmt) if that differs.

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git: the program prints its revision.
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags=-s -o /kube-ipvs ./cmd/kube-ipvs

# The package iptables has iptables-nft and iptables-legacy; kube-ipvs uses the one of the node. kmod has modprobe, for ip_vs.
# Sets, virtual servers, addresses and conntrack need no tools.
FROM debian:bookworm-slim
RUN apt-get update \
	&& apt-get install --yes --no-install-recommends iptables kmod \
	&& rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY --from=build /kube-ipvs /usr/local/bin/kube-ipvs
ENTRYPOINT ["/usr/local/bin/kube-ipvs"]
