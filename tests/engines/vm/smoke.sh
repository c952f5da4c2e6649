#!/bin/bash
# Runs inside the virtual machine: the named tests, with their output on the second serial port.
exec >/dev/ttyS1 2>&1 </dev/null
home=$(cat /smoke/home)
mkdir -p "$home"
mount --bind /smoke/repository "$home"
echo "smoke: $(uname -r), cgroups $(stat -fc %T /sys/fs/cgroup), up since $(cut -d' ' -f1 /proc/uptime) s"
export TERM=dumb HOME=/root
"$home/$(cat /smoke/execbox)" doctor --data-dir /var/tmp/doctor
mapfile -t tests </smoke/tests
# One at a time, and all the time they need: an emulated machine is slow.
EXECBOX_TESTS_SLOWER=20 /smoke/binary --exact --test-threads=1 "${tests[@]}"
echo "smoke: ended with $?"
