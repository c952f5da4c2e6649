//! The store on a real disk: durable commits of one caller after the other, and of eight that share them.

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use execbox::store::{Acceptance, Accepted, Ending, Store};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Executions of each caller.
const EACH: usize = 50;
/// Bytes of a small project.
const PROJECT: usize = 400;

fn acceptance() -> Acceptance {
    Acceptance {
        id: Uuid::new_v4(),
        tenant: "local".to_owned(),
        detached: true,
        created_at_ms: 1,
        request: format!("{{\"command\":\"{}\"}}", "x".repeat(600)),
        stdin: Vec::new(),
        project: vec![7; PROJECT],
        files: Vec::new(),
        idempotency: None,
    }
}

fn ending(id: Uuid) -> Arc<Ending> {
    Arc::new(Ending {
        id,
        attempt: 1,
        finished_at_ms: 2,
        result: format!("{{\"stdout\":\"{}\"}}", "x".repeat(300)),
        output: b"hello\n".to_vec(),
        files: Vec::new(),
        bytes: 500,
    })
}

async fn accept(store: Store) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for _ in 0..EACH {
        let new = acceptance();
        ids.push(new.id);
        assert_eq!(store.accept(new).await.unwrap(), Accepted::New);
    }
    ids
}

async fn finish(store: Store, ids: Vec<Uuid>) {
    for id in ids {
        store.begin(id, 1).await.unwrap();
        assert!(store.finish(ending(id), true).await.unwrap());
    }
}

/// So many callers at once.
fn all<T, F>(runtime: &Runtime, calls: Vec<F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let calls: Vec<_> = calls.into_iter().map(|call| runtime.spawn(call)).collect();
    runtime.block_on(futures::future::try_join_all(calls)).unwrap()
}

fn store() -> (Runtime, tempfile::TempDir, Store) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(folder.path()).unwrap();
    (Runtime::new().unwrap(), folder, store)
}

#[divan::bench(args = [1, 8], sample_count = 20)]
fn accepted_by_callers(bencher: Bencher<'_, '_>, callers: usize) {
    let (runtime, _folder, store) = store();
    let calls = || (0..callers).map(|_| accept(store.clone())).collect();
    bencher.counter(ItemsCount::new(callers * EACH)).bench(|| all(&runtime, calls()));
}

#[divan::bench(args = [1, 8], sample_count = 20)]
fn begun_and_finished_by_callers(bencher: Bencher<'_, '_>, callers: usize) {
    let (runtime, _folder, store) = store();
    let accepted = || all(&runtime, (0..callers).map(|_| accept(store.clone())).collect::<Vec<_>>());
    bencher.counter(ItemsCount::new(callers * EACH)).with_inputs(accepted).bench_values(|ids| {
        all(&runtime, ids.into_iter().map(|ids| finish(store.clone(), ids)).collect::<Vec<_>>())
    });
}
