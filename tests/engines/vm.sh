#!/usr/bin/env bash
# The smoke subset of the Docker tests on cgroup version 2: trixie's root with its own kernel, systemd and Engine, in
# QEMU with software emulation. The test binary runs inside; its output comes over the second serial port.
#
#   vm.sh TEST_BINARY RESULT_FILE      with the names of the tests, a line each, on standard input
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/engines/shared.sh

TESTS=$1
RESULT=$2
# Programs run some 20 times slower. After this the machine is given up.
MINUTES=${EXECBOX_VM_MINUTES:-25}
TREE=$FOLDER/vm
DISK=$FOLDER/vm.img
CONSOLE=$FOLDER/vm-console.log

cleanup() {
    trap - EXIT INT TERM
    if [ -n "${QEMU:-}" ]; then kill "$QEMU" 2>/dev/null || true; wait "$QEMU" 2>/dev/null || true; fi
    rm -rf "$TREE" "$DISK"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The root, the images in the Engine's data folder, and the tests at the path that is compiled into them.
make_disk() {
    local root repository=$TREE/smoke/repository
    root=$(tests/engines/root.sh)
    rm -rf "$TREE"
    cp -a "$root" "$TREE"
    # The Engine itself puts the images there.
    tests/engines/trixie/with-engine.sh --data-root "$TREE/var/lib/docker" true
    mkdir -p "$repository/tests"
    cp -a examples "$repository/"
    cp -a tests/fixtures "$repository/tests/"
    echo "$PWD" >"$TREE/smoke/home"
    sed '/^$/d' >"$TREE/smoke/tests"
    # Symbols are most of their size.
    strip -o "$TREE/smoke/binary" "$TESTS"
    local binary
    binary=$(execbox_path)
    mkdir -p "$(dirname "$repository/${binary#"$PWD"/}")"
    strip -o "$repository/${binary#"$PWD"/}" "$binary"
    cp tests/engines/vm/smoke.sh "$TREE/smoke/"
    cp tests/engines/vm/execbox-smoke.service "$TREE/etc/systemd/system/"
    mkdir -p "$TREE/etc/systemd/system/multi-user.target.wants" "$TREE/etc/docker"
    ln -sf ../execbox-smoke.service "$TREE/etc/systemd/system/multi-user.target.wants/"
    # Nothing here uses the network, and setting it up is slow.
    echo '{"bridge": "none", "iptables": false}' >"$TREE/etc/docker/daemon.json"
    for unit in serial-getty@ttyS0 getty@tty1 apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online; do
        ln -sf /dev/null "$TREE/etc/systemd/system/$unit$([[ $unit == *.* ]] || echo .service)"
    done
    rm -f "$DISK"
    truncate -s 4G "$DISK"
    mke2fs -q -t ext4 -F -d "$TREE" "$DISK"
    rm -rf "$TREE"
}

boot() {
    local root=$FOLDER/root kernel
    kernel=$(echo "$root"/boot/vmlinuz-*)
    rm -f "$RESULT"
    qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 3072 -nodefaults -display none -no-reboot \
        -kernel "$kernel" -initrd "${kernel/vmlinuz/initrd.img}" \
        -append "root=/dev/vda rw console=ttyS0 panic=-1 systemd.show_status=1" \
        -drive "file=$DISK,format=raw,if=virtio,cache=unsafe" \
        -serial "file:$CONSOLE" -serial "file:$RESULT" </dev/null &
    QEMU=$!
    local deadline=$((SECONDS + MINUTES * 60))
    while [ -d "/proc/$QEMU" ] && [ "$SECONDS" -lt "$deadline" ]; do
        sleep 1
    done
    if [ -d "/proc/$QEMU" ]; then fail "the virtual machine took more than $MINUTES minutes; see $CONSOLE"; fi
    wait "$QEMU" || fail "QEMU failed"
    QEMU=
}

need qemu-system-x86_64 qemu-system-x86
need mke2fs e2fsprogs
make_disk
say "booting the virtual machine; its console is $CONSOLE"
boot
tr -d '\r' <"$RESULT" >"$RESULT.new"
mv "$RESULT.new" "$RESULT"
grep -q '^smoke: ended with 0$' "$RESULT"
