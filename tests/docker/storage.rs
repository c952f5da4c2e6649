//! A disk that is full, and a store that is damaged: nothing is acknowledged that is not kept, and the operator is told
//! what to do.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{EXECBOX, Server};

/// A small file system of its own, gone with this.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "execbox-test"])
            .arg(folder.path())
            .status();
        assert!(mounted.unwrap().success(), "this test mounts a small disk, which needs root");
        Self(folder)
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.path().join("ballast")).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Takes every inode.
    fn crowd(&self) {
        let folder = self.0.path().join("crowd");
        std::fs::create_dir(&folder).unwrap();
        let full =
            (0..).find_map(|number| std::fs::File::create(folder.join(number.to_string())).err()).unwrap();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.0.path()).status());
    }
}

async fn post(server: &Server, route: &str, code: &str) -> (u16, Value) {
    let url = format!("{}/api/v1/{route}", server.url);
    let body = json!({"language": "bash", "code": code});
    let answer = server.client.post(url).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_can_not_keep_and_loses_nothing() {
    let disk = SmallDisk::mount("size=12m");
    let data = tempfile::tempdir_in(disk.0.path()).unwrap();
    let server = Server::start_on(data, &[]).await;
    let before = server.eval(&json!({"language": "bash", "code": "echo before"})).await;
    let running = server.submit_code("bash", "echo up; sleep 2; echo done").await;
    server.wrote(&running, "up").await;
    disk.fill();
    for route in ["eval", "exec/sync", "exec/async"] {
        let (status, problem) = post(&server, route, "echo no").await;
        assert_eq!((status, &problem["code"]), (503, &json!("storage_failed")), "{route}: {problem:#}");
    }
    let ready = server.client.get(format!("{}/readyz", server.url)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert_eq!(
        server.get(before["execution_id"].as_str().unwrap()).await,
        before,
        "what is kept can be read"
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(server.get(&running).await["status"], "running", "its end is not recorded, so nobody sees it");
    disk.free();
    let result = server.wait(&running).await;
    assert_eq!((&result["stdout"], &result["attempt"]), (&json!("up\ndone\n"), &json!(1)), "{result:#}");
    assert_eq!(post(&server, "eval", "echo after").await.1["stdout"], "after\n");
    println!("P15  a full disk: 3 of 3 requests refused, what was acknowledged before is whole");

    let data = server.crash().await;
    let server = Server::start_on(data, &[]).await;
    assert_eq!(server.get(&running).await, result);
    server.finish().await;
}

/// Case H11. What needs no file of its own may be done; what is acknowledged ends with its own result.
#[tokio::test]
async fn a_disk_without_inodes_loses_nothing() {
    let disk = SmallDisk::mount("size=64m,nr_inodes=2000");
    let data = tempfile::tempdir_in(disk.0.path()).unwrap();
    let server = Server::start_on(data, &[]).await;
    let before = server.eval(&json!({"language": "bash", "code": "echo before"})).await;
    let running = server.submit_code("bash", "echo up; sleep 2; echo done; echo left > left.txt").await;
    server.wrote(&running, "up").await;
    disk.crowd();
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for number in 0..4 {
        // Large enough for a file of its own.
        let code = format!("echo {number} # {}", "x".repeat(10_000));
        let (status, answer) = post(&server, "exec/async", &code).await;
        match status {
            202 => accepted.push((answer["execution_id"].as_str().unwrap().to_owned(), number)),
            _ => {
                assert_eq!((status, &answer["code"]), (503, &json!("storage_failed")), "{answer:#}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no inode was needed");
    assert_eq!(
        server.get(before["execution_id"].as_str().unwrap()).await,
        before,
        "what is kept can be read"
    );
    // Where what it leaves can't be kept, it waits, however long, and runs again.
    tokio::time::sleep(Duration::from_secs(6)).await;
    std::fs::remove_dir_all(disk.0.path().join("crowd")).unwrap();
    let result = server.wait(&running).await;
    assert_eq!((&result["stdout"], &result["attempt"]), (&json!("up\ndone\n"), &json!(2)), "{result:#}");
    assert_eq!(result["artifacts"][0]["path"], "left.txt", "{result:#}");
    for (id, number) in accepted {
        assert_eq!(server.wait(&id).await["stdout"], format!("{number}\n"));
    }
    assert_eq!(post(&server, "eval", "echo after").await.1["stdout"], "after\n");
    let data = server.crash().await;
    let server = Server::start_on(data, &[]).await;
    assert_eq!(server.get(&running).await, result);
    server.finish().await;
}

/// What an operator sees of a server that does not start.
fn complaint(data: &Path) -> String {
    let refused = Command::new(EXECBOX)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .output()
        .unwrap();
    assert!(!refused.status.success());
    String::from_utf8(refused.stderr).unwrap()
}

#[tokio::test]
async fn a_damaged_database_stops_the_start_and_says_what_to_do() {
    let server = Server::start().await;
    server.eval(&json!({"language": "bash", "code": "echo kept"})).await;
    let data = server.crash().await;
    // A start and an end fold the log into the file.
    let server = Server::start_on(data, &[]).await;
    let data = server.crash().await;
    let file = data.path().join("execbox.db");
    let whole = std::fs::read(&file).unwrap();
    let flipped = {
        let mut bytes = whole.clone();
        bytes[100] ^= 4;
        bytes
    };
    for damaged in [&whole[..100], &flipped[..], b"hello"] {
        std::fs::write(&file, damaged).unwrap();
        let complaint = complaint(data.path());
        assert!(complaint.contains("is damaged") && complaint.contains("backup"), "{complaint}");
        assert_eq!(std::fs::read(&file).unwrap(), damaged, "nothing is written over it");
        println!("P15  a damaged database: {complaint}");
    }
}
