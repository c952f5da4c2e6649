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
    let server = Server::start_on(data, &["--data-reserve-mb", "1"]).await;
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
    let server = Server::start_on(data, &["--data-reserve-mb", "1"]).await;
    assert_eq!(server.get(&running).await, result);
    server.finish().await;
}

/// Leaves 3 MiB that no other execution leaves.
fn leaves(number: usize) -> String {
    format!("echo {number}; head -c 3145728 /dev/urandom > left.bin")
}

/// Runs such programs until the disk is low; gives their ids.
async fn until_low(server: &Server) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let (status, answer) = post(server, "exec/sync", &leaves(ids.len())).await;
        if status == 200 {
            ids.push(answer["execution_id"].as_str().unwrap().to_owned());
            assert!(ids.len() < 20, "the disk is small");
            continue;
        }
        assert_eq!((status, &answer["code"]), (503, &json!("storage_failed")), "{answer:#}");
        assert!(answer["detail"].as_str().unwrap().contains("the disk of this server is low"), "{answer:#}");
        return ids;
    }
}

/// Purges work on a disk without a free byte, and what they free is used again: nobody restarts anything.
#[tokio::test]
async fn a_full_disk_heals_by_purges() {
    let disk = SmallDisk::mount("size=32m");
    let data = tempfile::tempdir_in(disk.0.path()).unwrap();
    let server = Server::start_on(data, &["--data-reserve-mb", "6"]).await;
    // The reserve is taken by the first sweep.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ids = until_low(&server).await;
    assert!(ids.len() >= 4, "{}", ids.len());
    let ready = server.client.get(format!("{}/readyz", server.url)).send().await.unwrap();
    let ready: Value = ready.json().await.unwrap();
    assert!(ready["detail"].as_str().unwrap().contains("6 MiB must stay free"), "{ready:#}");
    disk.fill();
    for id in &ids[..3] {
        server.purge(id).await;
        let gone = server.client.get(format!("{}/api/v1/executions/{id}", server.url)).send().await.unwrap();
        assert_eq!(gone.status(), 404);
    }
    let kept = server.get(&ids[3]).await;
    assert_eq!(kept["artifacts"][0]["path"], "left.bin", "{kept:#}");
    let (status, after) = post(&server, "exec/sync", "echo after").await;
    assert_eq!((status, &after["stdout"]), (200, &json!("after\n")), "{after:#}");
    server.finish().await;
}

/// Retention does, too.
#[tokio::test]
async fn a_full_disk_heals_by_age() {
    let disk = SmallDisk::mount("size=32m");
    let data = tempfile::tempdir_in(disk.0.path()).unwrap();
    let server = Server::start_on(data, &["--data-reserve-mb", "6", "--keep-seconds", "12"]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ids = until_low(&server).await;
    disk.fill();
    let began = std::time::Instant::now();
    loop {
        let (status, answer) = post(&server, "exec/sync", "echo after").await;
        if status == 200 {
            assert_eq!(answer["stdout"], "after\n", "{answer:#}");
            break;
        }
        assert_eq!((status, &answer["code"]), (503, &json!("storage_failed")), "{answer:#}");
        assert!(began.elapsed() < Duration::from_secs(40), "it never heals: {answer:#}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let gone =
        server.client.get(format!("{}/api/v1/executions/{}", server.url, ids[0])).send().await.unwrap();
    assert_eq!(gone.status(), 404);
    server.finish().await;
}

/// A caller that waits hears of it instead of waiting for room; the execution ends once there is some.
#[tokio::test]
async fn a_caller_that_waits_is_answered_on_a_full_disk() {
    let disk = SmallDisk::mount("size=24m");
    let data = tempfile::tempdir_in(disk.0.path()).unwrap();
    let server = Server::start_on(data, &["--data-reserve-mb", "1"]).await;
    let waiting = async {
        let began = std::time::Instant::now();
        let answer =
            post(&server, "exec/sync", "echo up; sleep 3; head -c 3000000 /dev/urandom > left.bin").await;
        (answer, began.elapsed())
    };
    let filling = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        disk.fill();
    };
    let (((status, answer), took), ()) = tokio::join!(waiting, filling);
    assert_eq!((status, &answer["code"]), (503, &json!("storage_failed")), "{answer:#}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    disk.free();
    let began = std::time::Instant::now();
    while server.get_health().await["running"] != 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "it never ends");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.finish().await;
}

/// Case H11. What needs no file of its own may be done; what is acknowledged ends with its own result.
#[tokio::test]
async fn a_disk_without_inodes_loses_nothing() {
    let disk = SmallDisk::mount("size=64m,nr_inodes=2000");
    let data = tempfile::tempdir_in(disk.0.path()).unwrap();
    let small = ["--data-reserve-mb", "1"];
    let server = Server::start_on(data, &small).await;
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
    let server = Server::start_on(data, &small).await;
    assert_eq!(server.get(&running).await, result);
    server.finish().await;
}

/// Files that others than their owner may read, or folders that others may enter.
fn open_to_others(folder: &Path, found: &mut Vec<String>) {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::symlink_metadata(folder).unwrap();
    if metadata.permissions().mode() & 0o077 != 0 {
        found.push(format!("{} {:o}", folder.display(), metadata.permissions().mode()));
    }
    if metadata.is_dir() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            open_to_others(&entry.path(), found);
        }
    }
}

/// Whatever the umask of whoever starts the server: results are nobody else's. What an earlier version left open is shut.
#[tokio::test]
async fn nobody_else_on_the_host_reads_the_data_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_after("umask 000", data, &["--workers", "2"]).await;
    let files =
        [("main.sh", &b"sleep 2; cat data.bin; cp data.bin left.bin"[..]), ("data.bin", &[b'x'; 300_000])];
    let archive = crate::projects::tar_of(&files);
    let id = server.submit(&archive, &json!({"language": "bash"})).await;
    let second = server.submit(&archive, &json!({"language": "bash"})).await;
    let mut open = Vec::new();
    open_to_others(server.data.path(), &mut open);
    for id in [&id, &second] {
        assert_eq!(server.wait(id).await["artifacts"][0]["path"], "left.bin");
    }
    open_to_others(server.data.path(), &mut open);
    assert!(open.is_empty(), "{open:#?}");
    let data = server.crash().await;
    for path in [data.path().join("blobs"), data.path().join("execbox.db"), data.path().to_owned()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let server = Server::start_on(data, &[]).await;
    open_to_others(server.data.path(), &mut open);
    assert!(open.is_empty(), "{open:#?}");
    server.finish().await;
}

/// Changes one byte in the middle of the largest file that the data folder keeps by its content.
fn change_a_blob(data: &Path) {
    let folders = std::fs::read_dir(data.join("blobs")).unwrap().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten());
    let largest = files.max_by_key(|file| file.metadata().unwrap().len()).expect("a file is kept").path();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
}

/// A project that was acknowledged and has changed on the disk since is our failure, and never runs.
#[tokio::test]
async fn a_project_that_was_changed_on_the_disk_does_not_run() {
    let server = Server::start_with(&["--workers", "1"]).await;
    let first = server.submit_code("bash", "echo up; sleep 60").await;
    server.wrote(&first, "up").await;
    let files = [("main.sh", &b"echo it ran"[..]), ("data.bin", &[7; 300_000])];
    let id = server.submit(&crate::projects::tar_of(&files), &json!({"language": "bash"})).await;
    change_a_blob(server.data.path());
    server.kill(&first).await;
    let result = server.wait(&id).await;
    assert_eq!((&result["status"], &result["reason"]), (&json!("failed"), &json!("internal")), "{result:#}");
    assert!(result["stdout"].as_str().unwrap_or_default().is_empty(), "{result:#}");
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
