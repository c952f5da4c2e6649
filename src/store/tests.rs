//! The store as its users see it: what is kept, what comes back, what goes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::*;

fn acceptance(tenant: &str, detached: bool) -> Acceptance {
    Acceptance {
        id: Uuid::new_v4(),
        tenant: tenant.into(),
        detached,
        created_at_ms: 1_000,
        request: r#"{"language":"bash"}"#.into(),
        stdin: b"input".to_vec(),
        project: b"frames".to_vec(),
        files: Vec::new(),
        idempotency: None,
    }
}

fn ending(id: Uuid, attempt: u32, finished_at_ms: i64, bytes: u64) -> Arc<Ending> {
    let (result, output) = (format!(r#"{{"error":"{}"}}"#, "x".repeat(1_000)), b"out".to_vec());
    Arc::new(Ending { id, attempt, finished_at_ms, result, output, files: Vec::new(), bytes })
}

/// Accepts, begins and finishes one.
async fn finished(store: &Store, tenant: &str, finished_at_ms: i64, bytes: u64) -> Uuid {
    let new = acceptance(tenant, false);
    let id = new.id;
    store.accept(new).await.unwrap();
    store.begin(id, 1).await.unwrap();
    assert!(store.finish(ending(id, 1, finished_at_ms, bytes), false).await.unwrap());
    id
}

async fn is_kept(store: &Store, tenant: &str, id: Uuid) -> bool {
    store.find(tenant.into(), id).await.unwrap().is_some()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Open files of this process below a folder.
fn open_files(folder: &std::path::Path) -> usize {
    let targets = std::fs::read_dir("/proc/self/fd").unwrap().map_while(Result::ok);
    targets.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target.starts_with(folder))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_at_once_leave_no_files_open() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let id = finished(&store, "a", 1_000, 1).await;
    assert!(is_kept(&store, "a", id).await);
    let before = open_files(folder.path());
    let found = futures::future::join_all((0..500).map(|_| is_kept(&store, "a", id))).await;
    assert!(found.into_iter().all(|found| found));
    assert_eq!(open_files(folder.path()), before);
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_crash_and_in_order() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let new = [acceptance("a", true), acceptance("b", false), acceptance("a", true)];
    let ids = new.each_ref().map(|new| new.id);
    for new in new {
        assert_eq!(store.accept(new).await.unwrap(), Accepted::New);
    }
    store.begin(ids[1], 2).await.unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let left = store.unfinished().await.unwrap();
    let seen: Vec<_> = left.iter().map(|left| (left.id, left.detached, left.running, left.attempt)).collect();
    assert_eq!(seen, [(ids[0], true, false, 0), (ids[1], false, true, 2), (ids[2], true, false, 0)]);
    assert_eq!((&left[0].stdin[..], &left[0].project[..]), (&b"input"[..], &b"frames"[..]));
    assert!(!is_kept(&store, "a", ids[0]).await, "it has not finished");
}

#[tokio::test]
async fn an_execution_finishes_once_in_the_attempt_that_it_is_at() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let new = acceptance("a", true);
    let id = new.id;
    store.accept(new).await.unwrap();
    store.begin(id, 1).await.unwrap();
    store.begin(id, 2).await.unwrap();
    assert!(!store.finish(ending(id, 1, 5, 3), true).await.unwrap(), "another attempt is under way");
    assert!(store.finish(ending(id, 2, 5, 3), true).await.unwrap());
    assert!(!store.finish(ending(id, 2, 6, 3), true).await.unwrap(), "it has finished");
    store.begin(id, 3).await.unwrap();
    store.put_back(id, 0).await.unwrap();
    let kept = store.find("a".into(), id).await.unwrap().unwrap();
    assert_eq!((kept.attempt, kept.finished_at_ms, &kept.output[..]), (2, 5, &b"out"[..]));
    assert_eq!(store.find("b".into(), id).await.unwrap(), None, "another tenant's");
    assert_eq!((store.unfinished().await.unwrap(), store.kept()), (Vec::new(), 1));
}

#[tokio::test]
async fn a_key_names_one_request_of_one_tenant_for_a_day() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let with = |tenant: &str, request: u8, at: i64| Acceptance {
        created_at_ms: at,
        idempotency: Some(("key".into(), [request; 32])),
        ..acceptance(tenant, true)
    };
    let first = with("a", 1, 1_000);
    let id = first.id;
    assert_eq!(store.accept(first).await.unwrap(), Accepted::New);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.accept(with("a", 1, 2_000)).await.unwrap(), Accepted::Known(id));
    assert_eq!(store.accept(with("a", 2, 2_000)).await.unwrap(), Accepted::KeyReused);
    assert_eq!(store.accept(with("b", 2, 2_000)).await.unwrap(), Accepted::New);
    let known = store.look_up_key("a".into(), "key".into(), [1; 32], 2_000).await.unwrap();
    assert_eq!(known, Some(Accepted::Known(id)));
    assert_eq!(store.accept(with("a", 2, 1_000 + DAY)).await.unwrap(), Accepted::New, "it is forgotten");
    assert_eq!(store.unfinished().await.unwrap().len(), 3);
    store.forget_key(id).await.unwrap();
}

/// The same request many times at once.
#[tokio::test]
async fn of_many_with_one_key_one_is_new() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let same = || Acceptance { idempotency: Some(("key".into(), [1; 32])), ..acceptance("a", true) };
    let all = futures::future::join_all((0..50).map(|_| store.accept(same()))).await;
    let new = all.iter().filter(|accepted| matches!(accepted, Ok(Accepted::New))).count();
    assert_eq!((new, store.unfinished().await.unwrap().len()), (1, 1));
}

#[tokio::test]
async fn the_oldest_go_first_by_age_count_and_bytes_for_each_tenant() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let policy = RetentionPolicy { age: Duration::from_millis(100), count: 2, bytes: 100 };
    let old = finished(&store, "a", 0, 1).await;
    let mut many = Vec::new();
    for _ in 0..4 {
        many.push(finished(&store, "a", 60, 1).await);
    }
    let mut large = Vec::new();
    for _ in 0..3 {
        large.push(finished(&store, "b", 60, 60).await);
    }
    store.expire(policy, vec!["a".into(), "b".into()], 100).await.unwrap();
    assert!(!is_kept(&store, "a", old).await);
    for (place, id) in many.iter().enumerate() {
        assert_eq!(is_kept(&store, "a", *id).await, place >= 2, "{place}");
    }
    for (place, id) in large.iter().enumerate() {
        assert_eq!(is_kept(&store, "b", *id).await, place == 2, "{place}");
    }
    let huge = finished(&store, "b", 60, 5_000).await;
    store.expire(policy, vec!["b".into()], 100).await.unwrap();
    assert!(is_kept(&store, "b", huge).await, "the newest stays however big it is");
    assert_eq!(store.kept(), 3);
    store.expire(policy, Vec::new(), 1_000).await.unwrap();
    assert_eq!(store.kept(), 0);
}

#[tokio::test]
async fn files_go_with_the_last_record_that_names_them() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let put = || store.put_file(vec![Bytes::from_static(b"large "), Bytes::from_static(b"output")], true);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let new = Acceptance { files: vec![put().await.unwrap()], ..acceptance("a", true) };
        let id = new.id;
        store.accept(new).await.unwrap();
        let end =
            Ending { files: vec![put().await.unwrap()], ..Arc::try_unwrap(ending(id, 0, 5, 3)).unwrap() };
        assert!(store.finish(Arc::new(end), true).await.unwrap());
        ids.push(id);
    }
    let path = store.path_of(ContentHash::of(b"large output"));
    assert_eq!(std::fs::read(&path).unwrap(), b"large output");
    store.purge("b".into(), ids[0]).await.unwrap();
    assert!(is_kept(&store, "a", ids[0]).await, "another tenant can't");
    store.purge("a".into(), ids[0]).await.unwrap();
    assert!(path.exists(), "the other one names it");
    store.purge("a".into(), ids[1]).await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn what_a_crash_left_without_a_record_is_collected() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let kept = store.put_file(vec![Bytes::from_static(b"kept")], true).await.unwrap();
    let path = kept.path();
    store.accept(Acceptance { files: vec![kept], ..acceptance("a", true) }).await.unwrap();
    let lost = store.put_file(vec![Bytes::from_static(b"lost")], true).await.unwrap().path();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    store.collect_all().await.unwrap();
    assert!(path.exists() && !lost.exists());
}

/// A change that fails takes nothing else with it, and nothing of it is left.
#[tokio::test]
async fn one_bad_change_does_not_spoil_its_batch() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let (good, bad) = (acceptance("a", true), acceptance("a", true));
    let id = good.id;
    let twice = Acceptance { id, idempotency: Some(("key".into(), [1; 32])), ..bad };
    let (good, twice) = tokio::join!(store.accept(good), store.accept(twice));
    assert!(good.is_ok() && twice.is_err());
    assert_eq!(store.look_up_key("a".into(), "key".into(), [1; 32], 1_000).await.unwrap(), None);
    assert_eq!(store.unfinished().await.unwrap().len(), 1);
}

/// Whatever bit of the database flips: the start is refused, or the record comes back as it was, or not at all with an
/// error. Never another one.
#[tokio::test]
async fn a_flipped_bit_never_gives_another_result() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(finished(&store, "a", 5, 3).await);
    }
    let whole = store.find("a".into(), ids[0]).await.unwrap().unwrap();
    drop(store);
    // The thread that writes ends by itself, and the last connection folds the log into the file.
    let file = folder.path().join("execbox.db");
    while folder.path().join("execbox.db-wal").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let bytes = std::fs::read(&file).unwrap();
    let (mut refused, mut failed, mut missing) = (0, 0, 0);
    for at in (0..bytes.len()).step_by(bytes.len() / 250) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&file, flipped).unwrap();
        drop(std::fs::remove_file(folder.path().join("execbox.db-wal")));
        drop(std::fs::remove_file(folder.path().join("execbox.db-shm")));
        let Ok(store) = Store::open(folder.path()) else {
            refused += 1;
            continue;
        };
        for id in &ids {
            match store.find("a".into(), *id).await {
                Ok(Some(found)) => {
                    assert_eq!((&found.output, &found.result), (&whole.output, &whole.result), "{at}")
                }
                Ok(None) => missing += 1,
                Err(_) => failed += 1,
            }
        }
    }
    assert!(refused > 10 && failed > 10, "{refused} starts refused, {failed} reads failed");
    assert_eq!(missing, 0, "records were not found and nobody was told");
}

/// Each time stored is a day before the one before it.
#[tokio::test]
async fn a_clock_that_jumps_changes_no_order() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    let mut ids = Vec::new();
    for day in (0..4).rev() {
        let new = Acceptance { created_at_ms: day * DAY, ..acceptance("a", true) };
        ids.push(new.id);
        store.accept(new).await.unwrap();
    }
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let left: Vec<_> = store.unfinished().await.unwrap().iter().map(|left| left.id).collect();
    assert_eq!(left, ids, "who came first is first");
    for (day, id) in (0..4).rev().zip(&ids) {
        store.begin(*id, 1).await.unwrap();
        assert!(store.finish(ending(*id, 1, day * DAY, 1), true).await.unwrap());
    }
    let policy = RetentionPolicy { age: Duration::from_secs(1 << 30), count: 2, bytes: 100 };
    store.expire(policy, vec!["a".into()], 0).await.unwrap();
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(is_kept(&store, "a", *id).await, place >= 2, "{place}: those that ended last stay");
    }
}

#[test]
fn of_too_many_keys_the_oldest_go_whatever_the_clock_said() {
    let folder = folder();
    let connection = Database::open(folder.path()).unwrap().connect().unwrap();
    // As many as are kept, and two that come when the clock was set back.
    connection
        .execute_batch(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100002) \
             INSERT INTO executions (seq, id, tenant, detached, created_at_ms, request, request_check) \
             SELECT n, CAST(printf('%016d', n) AS BLOB), 'a', 1, 0, '', x'' FROM n; \
             INSERT INTO idempotency_keys SELECT 'a', 'key ' || seq, zeroblob(32), id, \
             iif(seq > 100000, 0, 1000) FROM executions;",
        )
        .unwrap();
    records::expire_keys(&connection, 1_000).unwrap();
    let kept = |key: &str| -> i64 {
        let count = "SELECT count(*) FROM idempotency_keys WHERE key = ?1";
        connection.query_row(count, [key], |row| row.get(0)).unwrap()
    };
    assert_eq!(["key 1", "key 2", "key 3", "key 100001", "key 100002"].map(kept), [0, 0, 1, 1, 1]);
}
