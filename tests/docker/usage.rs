//! What is told of a program's use, and the limits on it, held against what the program itself knows. These must read
//! the same on cgroup version 1 and 2.

use serde_json::{Value, json};

use crate::fault_proxy::{Fault, FaultProxy, Target};
use crate::server::Server;

const MIB: f64 = 1_048_576.0;

async fn python(server: &Server, code: &str, config: Value) -> Value {
    server.eval(&json!({"language": "python", "code": code, "config": config})).await
}

fn usage(result: &Value, field: &str) -> f64 {
    result["usage"][field].as_f64().unwrap_or_else(|| panic!("no {field}: {result:#}"))
}

#[tokio::test]
async fn the_peak_of_memory_is_the_programs_own() {
    let server = Server::start().await;
    let little = python(&server, "print(1)", json!({})).await;
    let much = python(&server, "taken = b'x' * (200 << 20)\ndel taken", json!({})).await;
    let [little, much] = [little, much].map(|result| usage(&result, "memory_peak_bytes") / MIB);
    assert!((1.0..100.0).contains(&little), "{little} MiB for nothing");
    assert!((200.0..300.0).contains(&much), "{much} MiB for 200");
    server.finish().await;
}

/// The container's limit has room for files, too, which is none of the program's.
#[tokio::test]
async fn a_program_out_of_memory_is_told_what_it_reached() {
    let server = Server::start().await;
    let code = "taken = []\nwhile True: taken.append(b'x' * (4 << 20))";
    let limits = json!({"memory_mb": 64, "disk_mb": 16, "timeout_seconds": 300});
    let result = python(&server, code, limits).await;
    assert_eq!(
        (&result["reason"], &result["exit_code"]),
        (&json!("out_of_memory"), &json!(137)),
        "{result:#}"
    );
    let peak = usage(&result, "memory_peak_bytes") / MIB;
    assert!(peak > 64.0 && peak < 176.0, "{peak} MiB of 64");
    let told = format!("the program reached {} MiB of its 64 MiB", peak.ceil());
    assert!(result["error"].as_str().unwrap().contains(&told), "{told}: {result:#}");
    server.finish().await;
}

/// Four processes on half a processor.
#[tokio::test]
async fn processors_are_held_to_their_quota() {
    const PROGRAM: &str = "
import os, time
end = time.monotonic() + 3
for _ in range(3):
    if os.fork() == 0:
        break
while time.monotonic() < end:
    pass
";
    let server = Server::start().await;
    let result = python(&server, PROGRAM, json!({"cpus": 0.5})).await;
    let share = usage(&result, "cpu_ms") / usage(&result, "wall_ms");
    assert!((0.05..0.65).contains(&share), "{share} processors of 0.5: {result:#}");
    server.finish().await;
}

#[tokio::test]
async fn processes_are_counted_to_the_last() {
    const PROGRAM: &str = "
import os, signal
count = 1
try:
    while os.fork():
        count += 1
    signal.pause()
except OSError as error:
    print(count, error.strerror)
";
    let server = Server::start().await;
    let result = python(&server, PROGRAM, json!({"pids": 20})).await;
    assert_eq!(result["stdout"], "20 Resource temporarily unavailable\n", "{result:#}");
    server.finish().await;
}

/// Its files, and the kernel's memory for a child's sockets, fill the container, and the kernel kills the child. None of
/// that is memory in the sense of `memory_mb`, so the program goes on.
const KILLED_CHILD: &str = "
import os, socket, time
for place in ['/dev/shm/most', '/work/most']:
    with open(place, 'wb') as file:
        for _ in range(60): file.write(bytes(1 << 20))
child = os.fork()
if child == 0:
    larger = b'x' * (8 << 20)
    held = []
    while True:
        ends = socket.socketpair()
        ends[0].setblocking(False)
        held.append(ends)
        try:
            while True: ends[0].send(bytes(1 << 16))
        except BlockingIOError:
            pass
print('the child died of signal', os.waitpid(child, 0)[1])
time.sleep(0.5)
print('.' * 4000, flush=True)
time.sleep(1)
";

/// Newer Engines say of a container that still runs that it was out of memory, as soon as any process of it was.
#[tokio::test]
async fn a_child_out_of_memory_does_not_explain_a_stream_that_is_lost_later() {
    let proxy = FaultProxy::start();
    let server = Server::start_with(&["--docker-host", &proxy.host(), "--warm-max", "0"]).await;
    proxy.arm(Target::Kind("attach"), Fault::Cut(2_000));
    let result = python(&server, KILLED_CHILD, json!({"memory_mb": 32, "disk_mb": 64})).await;
    assert_eq!(proxy.disarm(), ["attach"]);
    assert_eq!((&result["reason"], &result["attempt"]), (&json!("exited"), &json!(2)), "{result:#}");
    assert!(result["stdout"].as_str().unwrap().starts_with("the child died of signal 9\n..."), "{result:#}");
    assert_eq!(result["usage"]["oom_kills"], 1, "{result:#}");
    let notice = result["notices"][0].as_str().unwrap();
    assert!(notice.contains("killed 1 process of the program") && notice.contains("192 MiB"), "{notice}");
    server.finish().await;
}

/// Shared memory stays when the processes that filled it are gone, and the runner must still say what happened.
#[tokio::test]
async fn memory_that_outlives_the_program_leaves_room_for_the_runner() {
    const PROGRAM: &str = "
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
while True:
    segment = libc.shmget(0, 8 << 20, 0o600)
    assert segment >= 0, ctypes.get_errno()
    ctypes.memset(libc.shmat(segment, None, 0), 1, 8 << 20)
";
    let server = Server::start().await;
    let result = python(&server, PROGRAM, json!({"memory_mb": 64, "disk_mb": 16})).await;
    assert_eq!((&result["reason"], &result["attempt"]), (&json!("out_of_memory"), &json!(1)), "{result:#}");
    server.finish().await;
}

#[tokio::test]
async fn the_timings_add_up_to_the_whole_time() {
    let server = Server::start().await;
    let programs = [("bash", "sleep 0.2; seq 1000 > kept.txt"), ("c", "int main(void) { return 0; }")];
    // Once for a container that is made, once for one that waits.
    for (language, code) in programs.iter().chain(&programs) {
        let result = server.eval(&json!({"language": language, "code": code})).await;
        let parts = result["timings"].as_object().unwrap();
        let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
        let whole = result["duration_ms"].as_f64().unwrap();
        assert!((sum - whole).abs() <= 1.0, "{sum} ms of {whole}: {result:#}");
        assert_eq!(parts["compile_ms"].as_f64().unwrap() > 0.0, *language == "c", "{result:#}");
    }
    server.finish().await;
}

/// A container whose runner did not see an end would be at its limit.
#[tokio::test]
async fn every_signal_that_ends_a_program_is_told_at_once() {
    const IGNORED: [i64; 7] = [17, 18, 20, 21, 22, 23, 28];
    const STOPS: i64 = 19;
    /// The kernel sends it for a file over its limit.
    const SIGXFSZ: i64 = 25;
    const PROGRAM: &str = "
import os, signal
print('before', flush=True)
# Python ignores some, and handles one.
if NUMBER in signal.valid_signals() - {9, 19}:
    signal.signal(NUMBER, signal.SIG_DFL)
os.kill(os.getpid(), NUMBER)
print('after')
";
    let server = Server::start().await;
    for signal in 1..=64 {
        let code = PROGRAM.replace("NUMBER", &signal.to_string());
        let limits = json!({"timeout_seconds": if signal == STOPS { 1 } else { 20 }});
        let result = python(&server, &code, limits).await;
        let expected = match signal {
            _ if IGNORED.contains(&signal) => json!(["exited", 0, "before\nafter\n"]),
            STOPS => json!(["timed_out", 137, "before\n"]),
            SIGXFSZ => json!(["disk_limit", 153, "before\n"]),
            _ => json!(["signaled", 128 + signal, "before\n"]),
        };
        let found = json!([result["reason"], result["exit_code"], result["stdout"]]);
        assert_eq!(found, expected, "signal {signal}: {result:#}");
        if found[0] == "signaled" {
            let name = result["error_type"].as_str().unwrap_or_default();
            assert_eq!(name.starts_with("SIGRTMIN"), signal >= 34, "signal {signal}: {result:#}");
            assert!(name.starts_with("SIG"), "signal {signal}: {result:#}");
        }
    }
    server.finish().await;
}

/// Orphans become children of the runner; one that ends in an odd way must not hide those that are left.
#[tokio::test]
async fn orphans_that_a_signal_of_any_number_ends_leave_nothing_running() {
    const PROGRAM: &str = "
import os, time
def orphan(act):
    if os.fork() == 0:
        if os.fork() == 0:
            act()
        os._exit(0)
for number in range(1, 65):
    orphan(lambda: (os.kill(os.getpid(), number), os._exit(0)))
orphan(lambda: time.sleep(600))
time.sleep(0.5)
os.kill(os.getpid(), 40)
";
    let server = Server::start().await;
    let result = python(&server, PROGRAM, json!({"timeout_seconds": 20, "pids": 200})).await;
    assert_eq!((&result["reason"], &result["exit_code"]), (&json!("signaled"), &json!(168)), "{result:#}");
    assert!(result["error"].as_str().unwrap().ends_with("signal 40 (SIGRTMIN+6)"), "{result:#}");
    server.finish().await;
}

/// The kernel reaps them by itself, and adds their time to nobody's.
#[tokio::test]
async fn children_whose_end_nobody_waits_for_count_with_their_processor_time() {
    const PROGRAM: &str = "
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(2):
    if os.fork() == 0:
        end = time.process_time() + 0.7
        while time.process_time() < end:
            pass
        os._exit(0)
try:
    os.wait()
except ChildProcessError:
    print('gone')
";
    let server = Server::start().await;
    let result = python(&server, PROGRAM, json!({"timeout_seconds": 60})).await;
    assert_eq!(result["stdout"], "gone\n", "{result:#}");
    let cpu_ms = usage(&result, "cpu_ms");
    assert!((1_400.0..1_700.0).contains(&cpu_ms), "{cpu_ms} ms of 1,400: {result:#}");
    // What an earlier execution in the same container used is not the next one's.
    let next = python(&server, "print(1)", json!({})).await;
    let cpu_ms = usage(&next, "cpu_ms");
    assert!((1.0..500.0).contains(&cpu_ms), "{cpu_ms} ms: {next:#}");
    server.finish().await;
}
