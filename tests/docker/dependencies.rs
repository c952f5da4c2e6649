//! Packages that requests ask for, installed by real installers from the registries of this machine.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engine;
use crate::server::Server;

/// Volumes with packages outlive their server, for the next one: tests remove theirs.
async fn finish(server: Server) {
    let packages = packages_label(&server);
    server.finish().await;
    remove_packages(&packages).await;
}

fn packages_label(server: &Server) -> String {
    server.label().replace("execbox.instance", "execbox.dependencies")
}

async fn remove_packages(label: &str) {
    for volume in engine::volumes(label).await {
        engine::remove_volume(&volume).await;
    }
    engine::assert_gone(label).await;
}

/// Those with packages in them, without what says that they are whole.
async fn package_volumes(server: &Server) -> Vec<String> {
    let all = engine::volumes(&packages_label(server)).await;
    all.into_iter().filter(|name| !name.ends_with("-whole")).collect()
}

fn six(code: &str) -> Value {
    json!({"language": "python", "code": code, "requirements_txt": "six==1.16.0\n"})
}

const VERSION: &str = "import six; print(six.__version__, six.__file__)";

#[tokio::test]
async fn a_package_is_installed_once_and_used_without_a_network() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    let first = server.eval(&six(VERSION)).await;
    assert_eq!(first["stdout"], "1.16.0 /deps/site/six.py\n", "{first:#}");
    assert_eq!(first["install"]["exit_code"], 0, "{first:#}");
    assert!(
        first["install"]["log"].as_str().unwrap().contains("Successfully installed six-1.16.0"),
        "{first:#}"
    );
    assert!(first["timings"]["install_ms"].as_f64().unwrap() > 0.0, "{first:#}");

    let offline = "import socket, six\ntry:\n    socket.create_connection(('192.0.2.1', 443), 2)\nexcept OSError as error:\n    print(error.errno)";
    // The same in other words.
    let mut again = six(offline);
    again["requirements_txt"] = json!("# comment\n  SIX == 1.16.0 # why\r\n\r\nsix==1.16.0");
    let second = server.eval(&again).await;
    assert_eq!(second["stdout"], "101\n", "the network must be unreachable: {second:#}");
    assert_eq!(
        (&second["install"], &second["timings"]["install_ms"]),
        (&Value::Null, &json!(0.0)),
        "{second:#}"
    );
    assert_eq!(package_volumes(&server).await.len(), 1);

    let write = "import os\nfor path in ('/deps/site/six.py', '/deps/site/x', '/deps/x'):\n    try:\n        open(path, 'a')\n    except OSError as error:\n        print(error.errno)";
    assert_eq!(
        server.eval(&six(write)).await["stdout"],
        "30\n30\n30\n",
        "it must be a read-only file system"
    );
    finish(server).await;
}

#[tokio::test]
async fn two_at_once_build_one_volume() {
    let server = Server::start_with(&["--installs", "packages", "--workers", "2"]).await;
    let body = six(VERSION);
    let (one, other) = tokio::join!(server.eval(&body), server.eval(&body));
    for result in [&one, &other] {
        assert_eq!(result["stdout"], "1.16.0 /deps/site/six.py\n", "{result:#}");
    }
    assert_eq!(one["install"], other["install"], "both waited for the same");
    assert_eq!(package_volumes(&server).await.len(), 1);
    finish(server).await;
}

#[tokio::test]
async fn what_can_not_be_installed_is_told_with_the_end_of_the_log_and_not_remembered() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    let mut body = six("print('never')");
    body["requirements_txt"] = json!("six==999.0.0");
    for _ in 0..2 {
        let result = server.eval(&body).await;
        assert_eq!(
            (&result["status"], &result["reason"]),
            (&json!("failed"), &json!("install_failed")),
            "{result:#}"
        );
        let error = result["error"].as_str().unwrap();
        assert!(error.contains("exit code 1") && error.contains("No matching distribution"), "{result:#}");
        assert!(result["install"]["log"].as_str().unwrap().contains("six==999.0.0"), "{result:#}");
        assert_eq!(
            (&result["install"]["exit_code"], &result["exit_code"]),
            (&json!(1), &Value::Null),
            "{result:#}"
        );
        assert_eq!(result.get("stdout"), None, "{result:#}");
    }
    let began = Instant::now();
    while !package_volumes(&server).await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "a volume of a failed install is left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    finish(server).await;
}
