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

built=$(mktemp)
trap 'rm -f "$built"' EXIT

# shellcheck disable=SC2086  # no argument where there is no format
"$engine" build $format --tag "$tag" --file "$bento/env/docker/Dockerfile" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg SOURCE="$source" \
    --iidfile "$built" "$@" "$bento"
# An engine that is stopped in the middle may say that all is well.
test -s "$built" || { echo "$engine built no image." >&2; exit 1; }
echo "Built $tag with $engine."
