//! What a program finds of the host: nobody who listens there answers, and nothing secret of the server is in reach.

use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::projects::tar_of;
use crate::server::Server;

/// Every address of this host, the Engine's bridge among them.
fn addresses() -> Vec<String> {
    let trie = std::fs::read_to_string("/proc/net/fib_trie").unwrap();
    let lines: Vec<_> = trie.lines().collect();
    let local = lines.windows(2).filter(|pair| pair[1].contains("/32 host LOCAL"));
    let mut found: Vec<_> =
        local.filter_map(|pair| pair[0].trim().strip_prefix("|-- ").map(str::to_owned)).collect();
    found.sort();
    found.dedup();
    found
}

/// Listens everywhere on the host and counts who comes.
struct Listeners {
    port: u16,
    name: String,
    count: Arc<AtomicUsize>,
}

impl Listeners {
    fn start() -> Self {
        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let udp = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        let name = format!("execbox-canary-{port}");
        let unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let count = Arc::<AtomicUsize>::default();
        let seen = || {
            let count = Arc::clone(&count);
            move || {
                count.fetch_add(1, Ordering::SeqCst);
            }
        };
        let (by_tcp, by_udp, by_unix) = (seen(), seen(), seen());
        std::thread::spawn(move || tcp.incoming().flatten().for_each(|_| by_tcp()));
        std::thread::spawn(move || {
            while udp.recv(&mut [0; 16]).is_ok() {
                by_udp();
            }
        });
        std::thread::spawn(move || unix.incoming().flatten().for_each(|_| by_unix()));
        Self { port, name, count }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// They are there for who is not in a container.
    fn assert_open(&self, addresses: &[String]) {
        for address in addresses {
            std::net::TcpStream::connect((address.as_str(), self.port)).unwrap();
        }
        let abstract_name = SocketAddr::from_abstract_name(&self.name).unwrap();
        UnixStream::connect_addr(&abstract_name).unwrap().read_to_end(&mut Vec::new()).unwrap();
    }
}

async fn run(server: &Server, program: &str, arguments: &Value) -> Value {
    let tar = tar_of(&[("main.py", program.as_bytes())]);
    let result = server.sync(&tar, &json!({"script_args": arguments, "artifacts": ["none"]})).await;
    assert_eq!((&result["reason"], &result["exit_code"]), (&json!("exited"), &json!(0)), "{result:#}");
    result
}

#[tokio::test]
async fn nobody_who_listens_on_the_host_is_reached() {
    let (listeners, addresses) = (Listeners::start(), addresses());
    assert!(addresses.len() >= 2, "{addresses:?}");
    listeners.assert_open(&addresses);
    // Each of ours, and the abstract one: what comes later is somebody else.
    let before = addresses.len() + 1;
    let began = Instant::now();
    while listeners.count() < before {
        assert!(began.elapsed() < Duration::from_secs(10), "{} of {before} came", listeners.count());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Loopback is the container's own.
    let outer: Vec<_> = addresses.iter().filter(|address| !address.starts_with("127.")).collect();
    let server = Server::start().await;
    let mut arguments = vec![listeners.port.to_string(), listeners.name.clone(), "127.0.0.1".to_owned()];
    arguments.extend(outer.into_iter().cloned());
    let result = run(&server, include_str!("programs/reach.py"), &json!(arguments)).await;
    assert_eq!(result["stdout"], "interfaces ['lo']\n");
    assert_eq!(listeners.count(), before, "somebody came");
    server.finish().await;
}

#[tokio::test]
async fn nothing_secret_of_the_server_is_in_a_container() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap().to_owned();
    let shell = "export TOKEN=canary-of-the-environment EXECBOX_LOG=warn";
    let server = Server::start_after(shell, data, &[]).await;
    let words = ["canary-of-the-environment", &folder, "exe_", "execbox.owner", "docker.sock", "a-control"];
    let tar = tar_of(&[
        ("main.py", include_str!("programs/search.py").as_bytes()),
        ("control.txt", b"here is a-control"),
    ]);
    let result = server.sync(&tar, &json!({"script_args": words, "artifacts": ["none"]})).await;
    let own = "found a-control /work/control.txt\n";
    let said = result["stdout"].as_str().unwrap();
    // The program has the words, too: they are its arguments.
    let found: Vec<_> = said.lines().filter(|line| line.starts_with("found")).collect();
    assert_eq!(found, [own.trim()], "{result:#}");
    let environment = said.lines().find(|line| line.starts_with("environment")).unwrap();
    for name in environment.split_whitespace().skip(1) {
        let known = [
            "EXECBOX_RESULTS",
            "EXECBOX_RESULT_FD",
            "HOME",
            "LANG",
            "LC_CTYPE",
            "LOGNAME",
            "PATH",
            "TERM",
            "TMPDIR",
            "USER",
            "OLDPWD",
            "PWD",
            "SHLVL",
            "_",
        ];
        assert!(known.contains(&name) || name.starts_with("PYTHON"), "{name} in {environment}");
    }
    server.finish().await;
}

/// Facts of the host that no program needs, by those tools that would show them; and what runtimes need stays.
#[tokio::test]
async fn a_program_finds_no_facts_of_the_host_that_it_does_not_need() {
    const PROGRAM: &str = "
import os
facts = ['/proc/cmdline', '/proc/sys/kernel/random/boot_id']
facts = [path for path in facts if open(path).read()]
folders = ['/proc/bus', '/proc/pressure', '/sys/bus', '/sys/class', '/sys/block', '/sys/dev', '/sys/module', '/sys/power',
           '/sys/hypervisor', '/sys/firmware', '/sys/kernel', '/sys/devices/virtual', '/sys/devices/pci0000:00',
           '/sys/devices/system/node', '/sys/devices/system/memory', '/sys/fs/ext4']
facts += [path for path in folders if os.path.isdir(path) and os.listdir(path)]
print(facts)
online = open('/sys/devices/system/cpu/online').read().strip()
print(online != '', os.cpu_count() == len(os.sched_getaffinity(0)), os.path.exists('/sys/fs/cgroup'))
";
    let server = Server::start().await;
    let result = server.eval(&json!({"language": "python", "code": PROGRAM})).await;
    assert_eq!(result["stdout"], "[]\nTrue True True\n", "{result:#}");
    server.finish().await;
}

/// A program that prints the contents of the files about the machine, and whether the program can change them.
const MACHINE: &str = r#"
import json, os
def lines(name): return open("/proc/" + name).read().splitlines()
def refused(name):
    try:
        os.chmod("/proc/" + name, 0o644)
        open("/proc/" + name, "w").close()
    except OSError:
        return True
print(json.dumps({
    "processors": sum(line.startswith("processor") for line in lines("cpuinfo")),
    "has_model": any(line.startswith(("model name", "CPU")) for line in lines("cpuinfo")),
    "memory": [line.split()[1] for line in lines("meminfo") if line.startswith(("MemTotal", "MemAvailable"))],
    "swap": [line.split()[1] for line in lines("meminfo") if line.startswith("SwapTotal")],
    "processors_by_time": sum(line[:3] == "cpu" and line[3] != " " for line in lines("stat")),
    "busy": sum(int(ticks) for ticks in lines("stat")[0].split()[1:]),
    "read_only": [refused(name) for name in ("cpuinfo", "meminfo", "stat")],
}))
"#;

#[tokio::test]
async fn in_a_room_the_files_about_the_machine_tell_the_limits() {
    let server = Server::start_with(&["--reuse", "tenant"]).await;
    let tar = tar_of(&[("main.py", MACHINE.as_bytes())]);
    for (memory_mb, cpus, processors) in [(96, 1.0, 1), (160, 1.5, 2)] {
        let config = json!({"memory_mb": memory_mb, "cpus": cpus});
        let result = server.sync(&tar, &json!({"config": config})).await;
        assert_eq!(result["reason"], "exited", "{result:#}");
        let told: Value = serde_json::from_str(result["stdout"].as_str().unwrap()).unwrap();
        let kib = (memory_mb * 1024).to_string();
        let expected = json!({
            "processors": processors, "has_model": true, "memory": [kib, kib], "swap": ["0"],
            "processors_by_time": processors, "busy": 0, "read_only": [true, true, true],
        });
        assert_eq!(told, expected);
    }
    server.finish().await;
}
