//! The server asks for the whole profile, an Engine makes something looser of it: the probe sees that from within, and
//! nothing is served.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::engine;
use crate::fault_proxy::FaultProxy;
use crate::server::{EXECBOX, Server};

/// The Engine's change, and what the message names.
const LOOSENED: [(&str, &str, &str); 5] = [
    ("\"ReadonlyRootfs\":true", "\"ReadonlyRootfs\":false", "/ is mounted for writing"),
    (
        "\\\"defaultAction\\\": \\\"SCMP_ACT_ERRNO\\\"",
        "\\\"defaultAction\\\": \\\"SCMP_ACT_ALLOW\\\"",
        "io_uring_setup",
    ),
    ("\"CapDrop\":[\"ALL\"]", "\"CapDrop\":[]", "a capability to gain"),
    ("\"PidsLimit\":129", "\"PidsLimit\":-1", "processes over 129"),
    ("\"ReadOnly\":true", "\"ReadOnly\":false", "/.execbox-runner is mounted for writing"),
];

#[tokio::test]
async fn a_server_whose_containers_are_looser_does_not_serve_and_says_why() {
    let data = tempfile::tempdir().unwrap();
    for (from, to, named) in LOOSENED {
        let proxy = FaultProxy::start();
        proxy.rewrite(from, to);
        let mut serve = tokio::process::Command::new(EXECBOX);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--docker-host", &proxy.host(), "--data-dir"]);
        serve.arg(data.path()).stdin(Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(Duration::from_secs(60), serve.output()).await;
        let output = ended.unwrap_or_else(|_| panic!("it serves although {named}")).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{named}: {said}");
        assert!(said.contains("do not hold what execbox promises") && said.contains(named), "{said}");
        assert!(said.contains("docker info"), "what to do: {said}");
        assert!(!said.contains("/api/v1/exec/sync"), "it announced itself: {said}");
        let instance = std::fs::read_to_string(data.path().join("instance")).unwrap();
        engine::assert_gone(&format!("execbox.instance={instance}")).await;
    }
    // The same folder, through the same proxy, unchanged.
    let proxy = FaultProxy::start();
    proxy.rewrite("no such text", "");
    let server = Server::start_on(data, &["--docker-host", &proxy.host()]).await;
    assert_eq!(server.eval(&json!({"language": "bash", "code": "echo up"})).await["stdout"], "up\n");
    server.finish().await;
}
