"""Plants a canary in every channel that two programs on one machine could share, or looks for somebody else's.

`plant WORD` plants and stays, `leave WORD` plants and ends, `look WORD` looks, `control WORD` plants and then looks from
another process of the same container, which must find everything: otherwise a `look` that finds nothing says nothing.

Each line of the output is `CHANNEL<tab>DETAIL`; `planted` and `found` come first in it.
"""

import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time

MODE, WORD = sys.argv[1:3]
LIBC = ctypes.CDLL(None, use_errno=True)
KEY, PORT = 0x0CA7A57, 47_111
IPC_CREAT, ALL = 0o1000, 0o666
FOLDERS = ["/work", "/tmp", "/dev/shm"]
# Beside the mount points: an image's file, a library's folder, the runner, what a kernel shows everyone.
PLACES = [
    "/usr/bin/env", "/usr/lib", "/etc/passwd", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/null", "/dev/zero",
    "/dev/urandom", "/.execbox-runner", "/.execbox-runner/execbox", "/proc/version", "/proc/sys/kernel/ostype", "/sys/class",
    "/sys/devices", "/sys/devices/system/cpu/online", "/sys/fs/cgroup", "/proc/self/exe", "/proc/1/exe",
    os.__file__,
]
held = []


def tell(verb, channel, detail=""):
    print(verb, channel, detail, sep="\t", flush=True)


def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def places():
    with open("/proc/self/mountinfo") as table:
        mounts = [line.split()[4] for line in table]
    return sorted(set(mounts + PLACES))


def opened(path):
    """A descriptor for reading, which is enough for a lock; `None` where even that is refused."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None


# Channels that keep something.


def plant_files():
    for folder in FOLDERS:
        with open(f"{folder}/{WORD}", "w") as file:
            file.write(WORD)


def look_files():
    for top in FOLDERS + ["/dev/mqueue", "/var/tmp", "/run", "/home"]:
        for folder, _, files in os.walk(top):
            for name in files:
                if WORD in name:
                    yield f"{folder}/{name}"


def plant_mqueue():
    held.append(checked(LIBC.mq_open(f"/{WORD}".encode(), os.O_CREAT | os.O_RDWR, 0o600, None)))


def look_mqueue():
    if LIBC.mq_open(f"/{WORD}".encode(), os.O_RDONLY) != -1:
        yield "by its name"


def plant_sysv():
    checked(LIBC.shmget(KEY, 4096, IPC_CREAT | ALL))
    checked(LIBC.semget(KEY, 1, IPC_CREAT | ALL))
    checked(LIBC.msgget(KEY, IPC_CREAT | ALL))


def look_sysv():
    for name, call in [("shm", lambda: LIBC.shmget(KEY, 0, 0)), ("sem", lambda: LIBC.semget(KEY, 0, 0)),
                       ("msg", lambda: LIBC.msgget(KEY, 0))]:
        if call() != -1:
            yield name
    for name in ["shm", "sem", "msg"]:
        with open(f"/proc/sysvipc/{name}") as table:
            if len(table.readlines()) > 1:
                yield f"/proc/sysvipc/{name}"


def plant_process():
    held.append(subprocess.Popen(["sleep", "600"], env={"CANARY": WORD}, start_new_session=True))
    held.append(subprocess.Popen(["/bin/sh", "-c", f": {WORD}; sleep 600; :"], start_new_session=True))


def look_process():
    own = {str(os.getpid()), str(os.getppid())} if MODE == "look" else {str(os.getpid())}
    for process in filter(str.isdigit, os.listdir("/proc")):
        for name in ["cmdline", "environ", "comm"]:
            try:
                with open(f"/proc/{process}/{name}", "rb") as file:
                    if process not in own and WORD.encode() in file.read():
                        yield f"{name} of a process"
            except OSError:
                pass


# Channels that somebody listens at.


def plant_sockets():
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0" + WORD)
    abstract.listen()
    tcp = socket.create_server(("0.0.0.0", PORT))
    tcp6 = socket.create_server(("::1", PORT), family=socket.AF_INET6)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", PORT))
    held.extend([abstract, tcp, tcp6, udp])


def look_sockets():
    for family, address in [(socket.AF_UNIX, "\0" + WORD), (socket.AF_INET, ("127.0.0.1", PORT)),
                            (socket.AF_INET6, ("::1", PORT))]:
        try:
            with socket.socket(family) as caller:
                caller.settimeout(1)
                caller.connect(address)
            yield f"connected to {address!r}"
        except OSError:
            pass
    for table in ["unix", "tcp", "udp"]:
        with open(f"/proc/net/{table}") as file:
            text = file.read()
        if WORD in text or f":{PORT:04X} " in text:
            yield f"/proc/net/{table}"


# Locks, and the news of files.


def plant_locks():
    for path in places():
        descriptor = opened(path)
        if descriptor is None:
            continue
        held.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # one file by two names


def look_locks():
    for path in places():
        descriptor = opened(path)
        if descriptor is None:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield path
        finally:
            os.close(descriptor)


def touch_for_ever():
    """Opens and reads everything again and again, for one who watches."""
    if os.fork() == 0:
        os.setsid()
        while True:
            for path in places():
                descriptor = opened(path)
                if descriptor is not None:
                    os.close(descriptor)
            time.sleep(0.05)


def look_watches():
    # Not what the kernel shows of processes: those files are each one's own, and change by themselves.
    paths = {path for path in places() if not path.startswith("/proc/self")}
    notify, names = checked(LIBC.inotify_init1(os.O_NONBLOCK)), {}
    for path in paths:
        opens = 0x20
        number = LIBC.inotify_add_watch(notify, path.encode(), opens)
        if number != -1:
            names[number] = path
    # The control looks while its own other process touches; nothing in this process opens a file meanwhile.
    deadline, seen = time.monotonic() + 1, set()
    while (left := deadline - time.monotonic()) > 0:
        if select.select([notify], [], [], left)[0]:
            data = os.read(notify, 1 << 16)
            while data:
                number, _, _, length = struct.unpack_from("iIII", data)
                seen.add(names.get(number, "?"))
                data = data[16 + length:]
    os.close(notify)
    yield from sorted(seen)


# What the kernel counts for each user.


def taken(take, most):
    count = 0
    try:
        while count < most:
            held.append(take())
            count += 1
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENOSPC, errno.EAGAIN, errno.EPERM, errno.ENOMEM):
            raise
    return count


def big_pipe():
    ends = os.pipe()
    fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, 1 << 20)
    return ends


def queue():
    name = f"/quota-{os.getpid()}-{len(held)}".encode()
    attributes = (ctypes.c_long * 8)(0, 10, 8192)
    return checked(LIBC.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, attributes))


def timer():
    number = ctypes.c_int()
    checked(LIBC.timer_create(1, None, ctypes.byref(number)))
    return number


QUOTAS = {
    "inotify instances": (lambda: checked(LIBC.inotify_init1(0)), 400),
    "pipe buffers": (big_pipe, 200),
    "message queues": (queue, 400),
}


def take_quotas():
    return {name: taken(take, most) for name, (take, most) in QUOTAS.items()}


def plant_quotas():
    take_quotas()


def look_quotas():
    for name, count in take_quotas().items():
        tell("count", name, count)


CHANNELS = {
    "files": (plant_files, look_files),
    "message queues": (plant_mqueue, look_mqueue),
    "System V objects": (plant_sysv, look_sysv),
    "processes": (plant_process, look_process),
    "sockets": (plant_sockets, look_sockets),
    "locks": (plant_locks, look_locks),
    "watches": (touch_for_ever, look_watches),
}


def plant():
    for channel, (act, _) in CHANNELS.items():
        act()
        tell("planted", channel)


def look():
    for channel, (_, act) in CHANNELS.items():
        for detail in act():
            tell("found", channel, detail)
    look_quotas()
    tell("looked", "everywhere")


if MODE in ("plant", "leave", "control"):
    plant()
    if MODE != "control":
        plant_quotas()
    tell("planted", "everything")
if MODE == "plant":
    time.sleep(600)
elif MODE == "control":
    sys.exit(subprocess.run([sys.executable, __file__, "look", WORD]).returncode)
elif MODE == "look":
    look()
os._exit(0)
