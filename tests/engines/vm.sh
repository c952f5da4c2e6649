#!/usr/bin/env bash
# The smoke subset of the Docker tests on cgroup version 2: trixie's root with its own kernel, systemd and Engine, in
# QEMU with software emulation. The test binary runs inside; its output comes over the second serial port.
#
#   vm.sh TEST_BINARY      with the names of the tests, a line each, on standard input; prints what they said
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/engines/shared.sh

TESTS=$1
# Programs run some 20 times slower. After this the machine is given up.
MINUTES=${EXECBOX_VM_MINUTES:-45}
TREE=$FOLDER/vm
DISK=$FOLDER/vm.img
RESULT=$FOLDER/vm-serial.log
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
    echo "${binary#"$PWD"/}" >"$TREE/smoke/execbox"
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
    # One thread for both processors: with two, a kernel that patches its code on one may trap on the other.
    qemu-system-x86_64 -accel tcg,thread=single -machine q35 -cpu max,la57=off -smp 2 -m 3072 \
        -nodefaults -display none -no-reboot \
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
# A serial line ends lines as typewriters do, and the tests colour their closing line for it.
sed -e 's/\r//g' -e 's/\x1b[^m]*m//g' -e 's/\x1b(B//g' "$RESULT"
grep -q '^smoke: ended' "$RESULT" || fail "the virtual machine ended before the tests; see $CONSOLE"
grep -q '^smoke: ended with 0' "$RESULT"
