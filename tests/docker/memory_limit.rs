//! `memory_mb` limits the program's own memory, whatever it is made of and however short its peak is; files have their
//! own limits.

use serde_json::{Value, json};

use crate::server::Server;

const MIB: u64 = 1 << 20;
const MEMORY_MB: u64 = 64;

async fn run(server: &Server, language: &str, code: &str) -> Value {
    let config = json!({"memory_mb": MEMORY_MB, "disk_mb": 256, "timeout_seconds": 120});
    server.eval(&json!({"language": language, "code": code, "config": config})).await
}

fn peak(result: &Value) -> u64 {
    result["usage"]["memory_peak_bytes"].as_u64().unwrap_or_else(|| panic!("no peak: {result:#}"))
}

/// Told with the peak that the usage has, too.
fn assert_over(what: &str, subject: &str, result: &Value) {
    let said = (result["reason"].as_str(), result["exit_code"].as_i64());
    assert_eq!(said, (Some("out_of_memory"), Some(137)), "{what}: {result:#}");
    let reached = peak(result).div_ceil(MIB);
    assert!((MEMORY_MB + 1..416).contains(&reached), "{what}: {reached} MiB");
    let error = format!(
        "out of memory: {subject} reached {reached} MiB of its {MEMORY_MB} MiB; raise config.memory_mb"
    );
    assert_eq!(result["error"], error, "{what}: {result:#}");
}

/// All of them take far more than 64 MiB, and none of it in files.
const HOARDS: [(&str, &str); 9] = [
    ("plain memory", "taken = []\nwhile True: taken.append(b'x' * (8 << 20))"),
    ("a peak that is gone at once", "taken = b'x' * (100 << 20)\ndel taken"),
    (
        "memfd",
        "
import mmap, os
file = os.memfd_create('hoard')
os.ftruncate(file, 200 << 20)
area = mmap.mmap(file, 200 << 20)
for place in range(0, 200 << 20, 4096): area[place] = 1
",
    ),
    (
        "a memfd that is only written",
        "
import os
file = os.memfd_create('hoard')
for _ in range(200): os.write(file, bytes(1 << 20))
",
    ),
    (
        "a shared mapping",
        "
import mmap
area = mmap.mmap(-1, 200 << 20)
for place in range(0, 200 << 20, 4096): area[place] = 1
",
    ),
    (
        "System V",
        "
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
for _ in range(25): ctypes.memset(libc.shmat(libc.shmget(0, 8 << 20, 0o600), None, 0), 1, 8 << 20)
",
    ),
    (
        "page tables: reading takes no other memory",
        "
import mmap
area = mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)
for place in range(0, 100 << 30, 2 << 20): area[place]
",
    ),
    (
        "children, each of them small",
        "
import os, time
for _ in range(20):
    if os.fork() == 0:
        taken = b'x' * (5 << 20)
        time.sleep(3)
        os._exit(0)
for _ in range(20): os.wait()
",
    ),
    (
        "a child that the kernel kills, of a parent that goes on",
        "
import os
if os.fork() == 0:
    taken = []
    while True: taken.append(b'x' * (8 << 20))
os.wait()
",
    ),
];

#[tokio::test]
async fn memory_of_every_kind_counts_and_no_peak_goes_unseen() {
    let server = Server::start().await;
    for (what, code) in HOARDS {
        assert_over(what, "the program", &run(&server, "python", code).await);
    }
    server.finish().await;
}

/// 10^7 numbers, of which the compiler makes something of each.
#[tokio::test]
async fn a_compiler_is_held_to_the_same_limit() {
    const CODE: &str = "
#define A 1,1,1,1,1,1,1,1,1,1
#define B A,A,A,A,A,A,A,A,A,A
#define C B,B,B,B,B,B,B,B,B,B
#define D C,C,C,C,C,C,C,C,C,C
#define E D,D,D,D,D,D,D,D,D,D
#define F E,E,E,E,E,E,E,E,E,E
int numbers[] = {F, F, F, F, F, F, F, F, F, F};
int main(void) { return numbers[0]; }
";
    let server = Server::start().await;
    let config = json!({"memory_mb": MEMORY_MB, "disk_mb": 256, "compile_timeout_seconds": 120});
    let result = server.eval(&json!({"language": "c", "code": CODE, "config": config})).await;
    assert_over("a compiler", "the compiler", &result);
    server.finish().await;
}

#[tokio::test]
async fn growth_of_500_mb_per_second_is_stopped_within_16_mib() {
    const PROGRAM: &str = "
import time
taken = []
while True:
    taken.append(b'x' * (2 << 20))
    time.sleep(2 / 500)
";
    let server = Server::start().await;
    let result = run(&server, "python", PROGRAM).await;
    assert_over("growth", "the program", &result);
    assert!(peak(&result) <= (MEMORY_MB + 16) * MIB, "{result:#}");
    server.finish().await;
}

/// Far more than `memory_mb`, and never the program's.
#[tokio::test]
async fn files_are_not_the_programs_memory_whether_they_stay_or_come_and_go() {
    const PROGRAM: &str = "
import mmap, os
piece = bytes(1 << 20)
def put(path, count):
    with open(path, 'wb', buffering=0) as file:
        for _ in range(count): file.write(piece)
put('/work/kept', 150)
put('/tmp/kept', 14)
with open('/dev/shm/kept', 'w+b') as file:
    file.truncate(60 << 20)
    area = mmap.mmap(file.fileno(), 60 << 20)
    for place in range(0, 60 << 20, 4096): area[place] = 1
for _ in range(20):
    put('/work/goes', 90)
    os.remove('/work/goes')
for _ in range(50):
    file = os.open('/work', os.O_TMPFILE | os.O_RDWR)
    os.posix_fallocate(file, 0, 90 << 20)
    os.close(file)
print('done')
";
    let server = Server::start().await;
    let result = run(&server, "python", PROGRAM).await;
    assert_eq!((&result["reason"], &result["stdout"]), (&json!("exited"), &json!("done\n")), "{result:#}");
    assert!(peak(&result) <= MEMORY_MB * MIB, "{result:#}");
    server.finish().await;
}

/// Under `--reuse tenant` a container serves both; the limits of the whole container are alike.
#[tokio::test]
async fn an_earlier_execution_with_a_higher_limit_hides_no_peak() {
    const SPIKE: &str = "taken = b'x' * (100 << 20)\ndel taken";
    let server = Server::start().await;
    for (memory_mb, disk_mb, reason) in [(256, 64, "exited"), (64, 256, "out_of_memory")] {
        let config = json!({"memory_mb": memory_mb, "disk_mb": disk_mb});
        let result = server.eval(&json!({"language": "python", "code": SPIKE, "config": config})).await;
        assert_eq!(result["reason"], reason, "{memory_mb} MiB: {result:#}");
    }
    server.finish().await;
}

#[tokio::test]
async fn the_peak_is_told_of_a_container_that_has_served_a_larger_program() {
    let server = Server::start().await;
    let spike = |mib: u32| json!({"language": "python", "code": format!("taken = b'x' * ({mib} << 20)")});
    let [large, small] = [server.eval(&spike(300)).await, server.eval(&spike(40)).await];
    assert!((300..340).contains(&(peak(&large) / MIB)), "{large:#}");
    assert!((40..80).contains(&(peak(&small) / MIB)), "{small:#}");
    server.finish().await;
}

/// V8 and the JVM stop by themselves, below `memory_mb`. Their words alone are none.
#[tokio::test]
async fn a_full_heap_of_a_language_is_told_as_memory() {
    const NODE: &str = "const kept = []; while (true) kept.push(new Array(1e5).fill(kept.length));";
    const JAVA: &str = "import java.util.*;
public class Main {
    public static void main(String[] args) {
        List<long[]> kept = new ArrayList<>();
        while (true) kept.add(new long[100000]);
    }
}";
    const KOTLIN: &str = "fun main() {\n    val kept = ArrayList<LongArray>()\n    while (true) kept.add(LongArray(100000))\n}";
    const WORDS: &str = "console.error('FATAL ERROR: JavaScript heap out of memory'); process.exitCode = 1;";
    let server = Server::start().await;
    let typescript = NODE.replace("kept =", "kept: any[] =");
    for (language, code, reason, exit_code) in [
        ("node", NODE, "out_of_memory", 134),
        ("typescript", &typescript, "out_of_memory", 134),
        ("java", JAVA, "out_of_memory", 1),
        ("kotlin", KOTLIN, "out_of_memory", 1),
        ("node", WORDS, "exited", 1),
    ] {
        let result = server.eval(&json!({"language": language, "code": code})).await;
        assert_eq!(
            (&result["reason"], &result["exit_code"]),
            (&json!(reason), &json!(exit_code)),
            "{language}: {result:#}"
        );
        let told = result["error"].as_str().is_some_and(|error| error.contains("raise config.memory_mb"));
        assert_eq!(told, reason == "out_of_memory", "{language}: {result:#}");
    }
    server.finish().await;
}
