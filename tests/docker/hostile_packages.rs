//! Packages of hostile make, where the operator allows them to run code: what they find, and what they can use up.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::dependencies::finish;
use crate::package_index::Index;
use crate::server::Server;

fn body(name: &str, code: &str) -> Value {
    json!({"language": "python", "code": code, "requirements_txt": format!("{name}==1.0")})
}

/// What a build script finds of us, of the host and of clouds.
const LOOK: &str = r#"
import re, socket, urllib.request
def reach(host, port):
    try:
        socket.create_connection((host, port), 2).close()
        return "reached"
    except OSError as error:
        return type(error).__name__
def through(target):
    host, port = os.environ["http_proxy"].rsplit("/", 1)[1].split(":")
    with socket.create_connection((host, int(port)), 5) as proxy:
        proxy.sendall(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
        return proxy.recv(100).decode().split(" ")[1]
def writes(path):
    try:
        open(path, "w").close()
        return True
    except OSError:
        return False
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
secrets = []
for top in ("/work", "/tmp", "/run", "/var", "/root", "/home", "/etc", "/mnt", "/opt", "/srv"):
    for place, _, files in os.walk(top):
        for file in files:
            try:
                with open(os.path.join(place, file), "rb") as opened:
                    if b"-".join((b"canary", b"of", b"the", b"operator")) in opened.read(1 << 20):
                        secrets.append(os.path.join(place, file))
            except OSError:
                pass
found = {
    "env": sorted(name for name in os.environ),
    "values": " ".join(os.environ.values()),
    "secrets": secrets,
    "sockets": [path for path in ("/run/docker.sock", "/var/run/docker.sock", "/run/containerd") if os.path.exists(path)],
    "uid": os.getuid(),
    "caps": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(),
    "writes": [path for path in ("/usr/bin/x", "/etc/x", "/.execbox-runner/execbox", "/usr/lib/python3/x") if writes(path)],
    "server": reach("127.0.0.1", int("SERVER_PORT")),
    "outside": reach("192.0.2.1", 80),
    "guarded": [through(target) for target in (
        "169.254.169.254:80", "127.0.0.1:SERVER_PORT", "localhost:SERVER_PORT", "localhost:80", "10.0.0.1:443",
        "192.168.0.1:80", "[::1]:80", "[fd00:ec2::254]:80", "172.17.0.1:443")],
    "odd": through("nothing"),
    "init": open("/proc/1/cmdline").read().split("\0")[0],
    "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
}
return wheel(folder, found)
"#;

/// Case F02.
#[tokio::test]
async fn f02_a_build_script_finds_no_secrets_and_no_way_out_of_its_box() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("canary"), "canary-of-the-operator").unwrap();
    // What listens on the host's loopback is not reached from in there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let script = LOOK.replace("SERVER_PORT", &port);
    let index = Index::with("canary", &script).await;
    let flags = ["--installs", "code", &index.flag()];
    let server = Server::start_after("export SERVER_SECRET=canary-of-the-operator", data, &flags).await;
    let result = server.eval(&body("canary", "import canary, json; print(json.dumps(canary.FOUND))")).await;
    assert_eq!(result["exit_code"], 0, "{result:#}");
    let found: Value = serde_json::from_str(result["stdout"].as_str().unwrap()).unwrap();
    for nothing in ["secrets", "sockets", "writes"] {
        assert_eq!(found[nothing], json!([]), "{nothing}: {found:#}");
    }
    assert!(!found["values"].as_str().unwrap().contains("canary-of-the-operator"), "{found:#}");
    assert!(!found["env"].as_array().unwrap().contains(&json!("SERVER_SECRET")), "{found:#}");
    assert!(found["uid"].as_u64().unwrap() >= 20_000, "{found:#}");
    assert_eq!(found["caps"], json!(vec!["0000000000000000"; 5]), "{found:#}");
    assert_eq!((&found["no_new_privs"], &found["seccomp"]), (&json!("1"), &json!("2")), "{found:#}");
    assert_eq!(found["init"], "/.execbox-runner/execbox", "{found:#}");
    assert_ne!(found["server"], "reached", "{found:#}");
    assert_ne!(found["outside"], "reached", "{found:#}");
    assert_eq!(found["guarded"], json!(vec!["403"; 9]), "{found:#}");
    assert_eq!(found["odd"], "400", "{found:#}");
    // The address of the index is the operator's.
    let log = result["install"]["log"].as_str().unwrap();
    let host = index.url.split('/').nth(2).unwrap();
    assert!(!log.contains(host) && log.contains("(the registry)"), "{log}");
    finish(server).await;
}

/// Cases F04 and F05: what is built here runs nowhere unless the operator says so, and comes from one index.
#[tokio::test]
async fn f04_without_leave_no_source_is_built_and_no_other_index_is_asked() {
    let index = Index::with("confused", "raise SystemExit('it ran')").await;
    let server = Server::start_with(&["--installs", "packages", &index.flag()]).await;
    let result = server.eval(&body("confused", "print('never')")).await;
    assert_eq!(result["reason"], "install_failed", "{result:#}");
    assert!(!result.to_string().contains("it ran"), "{result:#}");
    assert!(!index.asked().iter().any(|path| path.starts_with("/files/")), "{:?}", index.asked());
    // Public, and not in the operator's index: it is not looked for elsewhere.
    let mut public = body("six", "import six");
    public["requirements_txt"] = json!("six==1.16.0");
    let result = server.eval(&public).await;
    assert_eq!(result["reason"], "install_failed", "{result:#}");
    assert!(index.asked().iter().any(|path| path == "/simple/six/"), "{:?}", index.asked());
    finish(server).await;
}

/// Case F05.
#[tokio::test]
async fn f05_a_package_replaces_nothing_but_what_its_own_programs_import() {
    let script = r##"
file = wheel(folder, "x")
import shutil
with zipfile.ZipFile(os.path.join(folder, file), "a") as archive:
    archive.writestr("sitecustomize.py", "print('sitecustomize ran')")
    archive.writestr("evil.pth", "import sys; print('pth ran')\n")
    archive.writestr(NAME + "-1.0.data/data/../../../../usr/bin/python3", "evil")
    archive.writestr(NAME + "-1.0.data/scripts/python3", "#!/bin/sh\necho evil\n")
for path in ("/usr/bin/python3", "/.execbox-runner/execbox", "/usr/lib/execbox/script.py"):
    try:
        open(path, "w").close()
        raise SystemExit(path + " was written")
    except OSError:
        pass
return file
"##;
    let index = Index::with("greedy", script).await;
    let server = Server::start_with(&["--installs", "code", &index.flag()]).await;
    let hash = "import hashlib; print([hashlib.sha256(open(p, 'rb').read()).hexdigest() for p in \
                ('/usr/bin/python3', '/usr/lib/execbox/script.py')])";
    let plain = |code: &str| json!({"language": "python", "code": code});
    let before = server.eval(&plain(hash)).await;
    let tried = server.eval(&body("greedy", "print('ran')")).await;
    assert!(!tried.to_string().contains("was written"), "{tried:#}");
    let after = server.eval(&plain(hash)).await;
    assert_eq!(before["stdout"], after["stdout"]);
    assert_eq!(after["exit_code"], 0, "{after:#}");
    assert!(!after["stdout"].as_str().unwrap().contains("ran"), "{after:#}");
    finish(server).await;
}

/// Case F03.
#[tokio::test]
async fn f03_a_build_script_that_is_a_bomb_ends_at_the_limits_of_an_install() {
    for (name, script, says) in [
        ("endless", "while True: pass", "8 s"),
        ("memory", "x = []\nwhile True: x.append(bytes(1 << 24))", "install_failed"),
        (
            "disk",
            "for n in range(1 << 20):\n    with open(f'big{n}', 'wb') as file: file.write(bytes(1 << 22))",
            "256 MiB",
        ),
        ("forks", "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass", "8 s"),
    ] {
        let index = Index::with(name, script).await;
        let limits = ["--install-timeout-seconds=8", "--install-memory-mb=128", "--install-disk-mb=256"];
        let server =
            Server::start_with(&[&["--installs", "code", &index.flag()][..], &limits].concat()).await;
        let began = Instant::now();
        let result = server.eval(&body(name, "print('never')")).await;
        let took = began.elapsed();
        assert_eq!(result["reason"], "install_failed", "{name}: {result:#}");
        assert!(result.to_string().contains(says), "{name}: {result:#}");
        // The image that installs may have to be built first, but not by the second.
        assert!(took < Duration::from_secs(60), "{name}: {took:?}");
        let after = server.eval(&json!({"language": "python", "code": "print(1)"})).await;
        assert_eq!(after["stdout"], "1\n", "{name}: {after:#}");
        finish(server).await;
    }
}
