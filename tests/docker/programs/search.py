"""Prints every place that it can read in which one of the words (arguments) is."""

import os
import stat
import sys

WORDS = [word.encode() for word in sys.argv[1:]]
PROC = ["environ", "cmdline", "comm", "mountinfo", "mounts", "cgroup", "maps", "status", "stat", "limits", "auxv"]
SKIP = {"/proc", "/sys", "/usr"}


def look(path):
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        with open(path, "rb") as file:
            text = file.read(4 << 20)
    except OSError:
        return
    for word in WORDS:
        if word in text:
            print("found", word.decode(), path)


for process in os.listdir("/proc"):
    if process.isdigit() and process != str(os.getpid()):
        for name in PROC:
            look(f"/proc/{process}/{name}")
for name in ["environ", "mountinfo", "cgroup", "maps"]:
    look(f"/proc/self/{name}")
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in SKIP]
    for name in files:
        look(os.path.join(folder, name))
print("environment", *sorted(os.environ))
