# SPDX-License-Identifier: Apache-2.0

# The two images. make image builds them with buildah; with docker:
#   make image-files
#   docker buildx build --file=Dockerfile --target=kube-ipvs --platform=linux/amd64,linux/arm64 --tag=NAME --push bin/image/files
# The context is the folder that make image-files fills, with a folder for each architecture. Nothing runs in the images while they
# are built, so that no architecture needs an emulator, and there is no other image to fetch.

# For kernels with nf_tables: the program, and nothing else.
FROM scratch AS kube-ipvs
ARG TARGETARCH VERSION REVISION
LABEL org.opencontainers.image.title="kube-ipvs" \
	org.opencontainers.image.description="IPVS-mode Service proxy for Kubernetes" \
	org.opencontainers.image.source="https://github.com/kube-ipvs/kube-ipvs" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.version="$VERSION" \
	org.opencontainers.image.revision="$REVISION"
COPY $TARGETARCH/kube-ipvs /usr/local/bin/kube-ipvs
ENTRYPOINT ["/usr/local/bin/kube-ipvs"]

# For all other kernels: the same beside some packages of Debian. The package iptables has iptables-nft and iptables-legacy; kube-ipvs
# uses the one of the node. kmod has modprobe, which loads ip_vs. ipset is for people: kube-ipvs needs no tool for sets.
FROM scratch AS kube-ipvs-iptables
ARG TARGETARCH VERSION REVISION
LABEL org.opencontainers.image.title="kube-ipvs-iptables" \
	org.opencontainers.image.description="IPVS-mode Service proxy for Kubernetes, with iptables and ipset" \
	org.opencontainers.image.source="https://github.com/kube-ipvs/kube-ipvs" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.version="$VERSION" \
	org.opencontainers.image.revision="$REVISION"
ADD $TARGETARCH/debian.tar /
COPY $TARGETARCH/kube-ipvs /usr/local/bin/kube-ipvs
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin
ENTRYPOINT ["/usr/local/bin/kube-ipvs"]
