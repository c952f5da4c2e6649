//! Node's packages, by npm from the registry of this machine.

use serde_json::{Value, json};

use crate::dependencies::finish;
use crate::server::Server;

const DEBUG: &str =
    "sha512-RGwwWnwQvkVfavKVt22FGLw+xYSdzARwm0ru6DhTVA3umU5hZc28V3kO4stgYryrTlLpuvgI9GiijltAjNbcqA==";
const MS: &str =
    "sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA==";

fn manifest() -> Value {
    json!({"name": "app", "scripts": {"postinstall": "exit 1"}, "dependencies": {"debug": "^4.3.0"}})
}

/// Its addresses lead nowhere, which does not matter.
fn lock(ms: &str) -> Value {
    json!({"name": "app", "lockfileVersion": 3, "requires": true, "packages": {
        "": {"name": "app", "dependencies": {"debug": "^4.3.0"}},
        "node_modules/debug": {"version": "4.4.3", "resolved": "https://a.example/debug-4.4.3.tgz", "integrity": DEBUG,
            "dependencies": {"ms": "^2.1.3"}, "peerDependenciesMeta": {"supports-color": {"optional": true}}},
        "node_modules/ms": {"version": "2.1.3", "resolved": "git+ssh://a.example/ms.git", "integrity": ms},
    }})
}

fn files(code: &str, name: &str) -> Value {
    json!([{"name": name, "content": code},
        {"name": "package.json", "content": manifest().to_string()},
        {"name": "package-lock.json", "content": lock(MS).to_string()}])
}

#[tokio::test]
async fn locked_packages_are_found_by_require_and_import() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    let required =
        "const ms = require('ms'); require('debug'); console.log(ms('2 days'), require.resolve('ms'))";
    let body = json!({"language": "node", "entrypoint": "main.js", "files": files(required, "main.js"), "install": true});
    let first = server.eval(&body).await;
    assert_eq!(first["stdout"], "172800000 /deps/node_modules/ms/index.js\n", "{first:#}");
    assert_eq!(first["install"]["exit_code"], 0, "{first:#}");

    let imported = "import ms from 'ms'; console.log(ms(60000))";
    let apart = json!({"package.json": manifest().to_string(), "package-lock.json": lock(MS).to_string()});
    let body = json!({"language": "node", "files": [{"name": "main.mjs", "content": imported}], "dependencies": apart});
    let second = server.eval(&body).await;
    assert_eq!((&second["stdout"], &second["install"]), (&json!("1m\n"), &Value::Null), "{second:#}");

    let typed = "import ms from 'ms'; const n: number = ms('1s'); console.log(n)";
    let body = json!({"language": "typescript", "files": [{"name": "main.ts", "content": typed}], "dependencies": apart});
    let third = server.eval(&body).await;
    assert_eq!(third["stdout"], "1000\n", "{third:#}");
    finish(server).await;
}

#[tokio::test]
async fn a_package_with_another_hash_is_not_installed() {
    let server = Server::start_with(&["--installs", "packages"]).await;
    let forged = lock(&MS.replace("6Flz", "7Flz")).to_string();
    let files = json!({"package.json": manifest().to_string(), "package-lock.json": forged});
    let result = server.eval(&json!({"language": "node", "code": "1", "dependencies": files})).await;
    assert_eq!(result["reason"], "install_failed", "{result:#}");
    assert!(result["install"]["log"].as_str().unwrap().contains("EINTEGRITY"), "{result:#}");
    finish(server).await;
}
