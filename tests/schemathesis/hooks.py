"""What the document can't say: a `tar` part is a tar archive, and this server has keys."""

import gzip
import io
import tarfile

import schemathesis
from hypothesis import strategies as st

PROGRAMS = [
    {"main.py": "print(6 * 7)"},
    {"main.py": "import lib.a", "lib/a.py": "open('out.txt', 'w').write('a')"},
    {"main.py": "raise SystemExit(3)"},
    {"main.sh": "cat; echo x > 'ä b.txt'; printf '\\377'"},
    {"main.sh": "sleep 9"},
    {"main.c": "int main(void) { return 1 }"},
    {"README": "nothing to run"},
]


def packed(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


archives = [packed(files) for files in PROGRAMS]
archives += [gzip.compress(archive) for archive in archives[:2]]
schemathesis.openapi.format("binary", st.one_of(st.sampled_from(archives), st.binary(max_size=2000)))


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """The document is for servers with and without keys; on this one, nobody goes without."""
    raw_schema["security"] = [scheme for scheme in raw_schema["security"] if scheme]


@schemathesis.deserializer("application/x-tar", "application/octet-stream")
def as_bytes(context, response):
    return response.content.decode("latin-1")
