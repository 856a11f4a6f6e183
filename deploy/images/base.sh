#!/bin/sh
# A stand-in for debian:bookworm-slim where no registry can be reached: made as Debian's own is,
# by debootstrap, out of Debian's packages.
#
#     deploy/images/base.sh [TAG]        then: make image ARGS="--build-arg BASE=TAG"
#
# Needs root, debootstrap, and docker, podman or buildah. MIRROR names another mirror.
set -eu
tag=${1:-localhost/debian:bookworm-slim}
engine=$("$(dirname "$0")/engine.sh")
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT

# In a mount namespace of its own: what is mounted below the root is gone before it is removed.
unshare --mount sh -eu -s "$root" "${MIRROR:-http://deb.debian.org}" >&2 <<'END'
root=$1 mirror=$2
debootstrap --variant=minbase bookworm "$root" "$mirror/debian"

# As in Debian's slim images, what nobody reads in a container is never unpacked.
for folder in doc groff info linda lintian locale man; do
    echo "path-exclude /usr/share/$folder/*"
    rm -rf "$root/usr/share/$folder"/*
done >"$root/etc/dpkg/dpkg.cfg.d/docker"
echo "path-include /usr/share/doc/*/copyright" >>"$root/etc/dpkg/dpkg.cfg.d/docker"

# With what was mended by today, as a base that was made today has it.
for suite in "debian bookworm" "debian bookworm-updates" "debian-security bookworm-security"; do
    echo "deb $mirror/$suite main"
done >"$root/etc/apt/sources.list"
chroot "$root" apt-get -qq update
DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -qq upgrade -y
rm -rf "$root/var/lib/apt/lists"/* "$root/var/cache/apt"/* "$root/var/log"/*
END

if [ "$engine" = buildah ]; then
    container=$(buildah from scratch)
    buildah add -q "$container" "$root" / >&2
    buildah commit -q --rm "$container" "$tag" >&2
else
    tar -C "$root" --one-file-system -cf - . | "$engine" import - "$tag" >&2
fi
echo "$tag"
