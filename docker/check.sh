#!/usr/bin/env bash
# Build and try the image without a Docker engine (Debian, as root):
#
#   make docker-check
#   docker/check.sh FOLDER      the same; base image and downloads stay in FOLDER, for a next time
#
# buildah builds docker/Dockerfile on a Debian that debootstrap makes. Then the demo, the smoke profile of experiment 02 and the
# run of the golden losses take place in the image, as its user and without a network; the losses must be those outside, bit for bit.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python} # has the locked packages, for the losses outside
FREE_GB=35                         # buildah's vfs driver keeps a copy of everything for each image and container
BASE=localhost/debian-python:bookworm
IMAGE=localhost/rectified-lpjepa

times=()

clean_up() {
    "${BUILDAH[@]}" rm --all >"$work/removed" 2>&1 || cat "$work/removed"
    if [ "$keep" = no ]; then rm -rf --one-file-system "$work"; fi
}

timed() { # NAME COMMAND...: run it, and note how long it took
    echo "== $1"
    local start=$SECONDS
    "${@:2}"
    times+=("$(printf '%6d s  %s' $((SECONDS - start)) "$1")")
}

make_base() { # a minimal Debian with what the Dockerfile asks of its base
    local container root
    container=$("${BUILDAH[@]}" from scratch)
    root=$("${BUILDAH[@]}" mount "$container")
    debootstrap --variant=minbase --include=python3,python3-pip,python3-venv bookworm "$root" >"$work/debootstrap.log" 2>&1 ||
        { tail "$work/debootstrap.log" && return 1; }
    rm -r "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    "${BUILDAH[@]}" unmount "$container" >/dev/null
    "${BUILDAH[@]}" commit --quiet --rm "$container" "$BASE"
}

pip_configuration() { # what pip needs on this machine to reach its index, from its files and the environment, as one file
    local options='cert|timeout|default-timeout|index-url|extra-index-url|proxy|trusted-host'
    echo '[global]'
    # Folders of packages on this machine are not there in the build.
    "$PYTHON" -m pip config list | sed -nE "/file:/d; s/^(:env:|global)\.($options)='(.*)'$/\2 = \3/p" | awk '!seen[$1]++'
}

build() {
    pip_configuration >"$work/pip.conf"
    "${BUILDAH[@]}" build --build-arg BASE="$BASE" --build-arg COMMIT="$commit" \
        --volume /etc/ssl/certs:/etc/ssl/certs:ro --volume "$work/pip.conf:/etc/pip.conf:ro" \
        --file docker/Dockerfile --tag "$IMAGE" .
}

in_image() { # COMMAND...: as the image's user, in a network with nothing but an unused loopback device
    unshare --net "${BUILDAH[@]}" run --volume "$PWD/tests:/tests:ro" "$container" -- "$@"
}

check_contents() {
    # shellcheck disable=SC2016 # the image's shell expands it
    in_image sh -euc '
        fail() { echo "error: $1" >&2; exit 1; }
        [ "$(id -u)" -ne 0 ] || fail "the image runs as root"
        for tool in cc gcc g++ make ld git hatchling; do
            ! command -v $tool || fail "the image has $tool"
        done
        [ ! -e /opt/venv/bin/pip ] || fail "the environment has pip"
        for place in /opt/venv /lpjepa /lpjepa/configs /lpjepa/experiments; do
            [ ! -w $place ] || fail "its user may write to $place"
        done
        for place in /lpjepa/runs /lpjepa/datasets "$HOME"; do
            [ -w $place ] || fail "its user may not write to $place"
        done
        tensorboard --version >/dev/null || fail "TensorBoard does not start"
        [ "$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " ")" = lo ] || fail "the network is on"
    '
}

demo() {
    in_image "$program" fit --config configs/digits.yaml
    in_image "$program" validate --config configs/digits.yaml | tee "$work/validated"
    grep --quiet "^equal to training's log$" "$work/validated" ||
        { echo "error: validate does not find what training logged" >&2 && return 1; }
    in_image grep --recursive --quiet --include=result.json "\"commit\": \"$commit\"" runs
}

compare_losses() {
    PYTHONPATH=$PWD "$PYTHON" tests/golden_run.py >"$work/outside.json"
    in_image python /tests/golden_run.py >"$work/inside.json"
    cmp "$work/outside.json" "$work/inside.json"
    echo "the losses and gradients of $(grep -c '"loss"' "$work/inside.json") steps are equal inside and outside, bit for bit"
}

if [ "$(id -u)" -ne 0 ]; then echo "error: docker/check.sh needs root, for debootstrap and buildah's chroot" >&2; exit 1; fi
# Nothing is made before it is known that it will be used.
place=${1:-${TMPDIR:-/tmp}}
while [ ! -e "$place" ]; do place=$(dirname "$place"); done
free=$(df --output=avail --block-size=1G "$place" | tail -1)
if [ "$free" -lt "$FREE_GB" ]; then
    echo "error: $place has $free GB free, $FREE_GB are needed. HINT: TMPDIR=/elsewhere make docker-check" >&2
    exit 1
fi
if ! command -v buildah >/dev/null || ! command -v debootstrap >/dev/null; then
    apt-get install --yes --quiet --no-install-recommends buildah debootstrap
fi

commit=$(git describe --always --dirty=-modified --abbrev=12)
keep=$([ $# -eq 0 ] && echo no || echo yes)
work=${1:-$(mktemp --directory)}
mkdir -p "$work/tmp"
work=$(realpath "$work")
export TMPDIR=$work/tmp BUILDAH_ISOLATION=chroot
BUILDAH=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run")
trap clean_up EXIT
"${BUILDAH[@]}" images --quiet "$BASE" >/dev/null 2>&1 || timed "base image by debootstrap" make_base
timed "build" build
container=$("${BUILDAH[@]}" from "$IMAGE")
program=$("${BUILDAH[@]}" inspect --format '{{index .OCIv1.Config.Entrypoint 0}}' "$container")
timed "contents, user, network" check_contents
timed "demo" demo
timed "experiment 02, smoke" in_image "$program" experiment run 02 --profile smoke --parallel 2
timed "golden losses, outside and inside" compare_losses

echo "== passed"
printf '%s\n' "${times[@]}"
"${BUILDAH[@]}" images --format 'image: {{.Size}} ({{.Name}})' "$IMAGE"
