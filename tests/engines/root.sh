#!/usr/bin/env bash
# Makes, once, the root file system of Debian trixie with its Engine, systemd and a kernel, in target/engines/root, and
# prints the folder. The same root serves the private Engine beside the machine's own, and the virtual machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/engines/shared.sh

ROOT=$FOLDER/root
# What it is made of: changed, it is made anew.
PACKAGES=docker.io,systemd-sysv,dbus,udev,apparmor,linux-image-cloud-amd64,initramfs-tools,zstd,kmod
RECIPE="trixie $PACKAGES 1"

if [ "$(cat "$ROOT.recipe" 2>/dev/null)" != "$RECIPE" ]; then
    need mmdebstrap mmdebstrap debian-archive-keyring
    say "making $ROOT from Debian packages ($PACKAGES); the log is $ROOT.log"
    rm -rf "$ROOT" "$ROOT.recipe"
    mkdir -p "$FOLDER"
    # The virtual machine has its disk on virtio: with only that, its first file system is small, and so quickly unpacked.
    # shellcheck disable=SC2016  # $1 is mmdebstrap's
    mmdebstrap --mode=root --variant=minbase --include="$PACKAGES" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-confold \
        --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
        --essential-hook='echo MODULES=list >"$1/etc/initramfs-tools/conf.d/execbox"' \
        --essential-hook='printf "%s\n" virtio_pci virtio_blk ext4 >"$1/etc/initramfs-tools/modules"' \
        trixie "$ROOT" >"$ROOT.log" 2>&1 || fail "mmdebstrap failed; see $ROOT.log"
    echo "$RECIPE" >"$ROOT.recipe"
fi
echo "$ROOT"
