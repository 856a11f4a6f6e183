#!/bin/sh
# The container engine that is found and answers: docker, podman or buildah.
for engine in docker podman buildah; do
    if "$engine" info >/dev/null 2>&1; then
        echo "$engine"
        exit
    fi
done
echo "No container engine: none of 'docker info', 'podman info' and 'buildah info' answers." >&2
exit 1
