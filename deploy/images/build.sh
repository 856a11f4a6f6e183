#!/bin/sh
# The image of a Bento, with docker, podman or buildah, whichever is found; `make image` calls it.
#
#     deploy/images/build.sh BENTO_FOLDER TAG [ARGUMENT OF THE ENGINE'S build]...
set -eu
bento=$1 tag=$2
shift 2
here=$(dirname "$0")
engine=$("$here/engine.sh")
case $engine in
docker) format="" ;;
*) format="--format=docker" ;; # the other format has no HEALTHCHECK
esac
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/../../pyproject.toml")
revision=$(git -C "$here" rev-parse HEAD 2>/dev/null || echo unknown)
source=$(git -C "$here" remote get-url origin 2>/dev/null || echo unknown)

# shellcheck disable=SC2086  # no argument where there is no format
"$engine" build $format --tag "$tag" --file "$bento/env/docker/Dockerfile" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg SOURCE="$source" \
    "$@" "$bento"
echo "Built $tag with $engine."
