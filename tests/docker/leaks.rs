//! Two tenants' programs on one machine: what one plants in every channel that both could share, the other never finds,
//! neither at the same time nor one after the other.

use std::collections::BTreeMap;

use execbox::store::{KeySpec, Keys, Scope};
use serde_json::{Value, json};

use crate::engine;
use crate::projects::tar_of;
use crate::server::Server;

const PROGRAM: &str = include_str!("programs/leaks.py");
/// What the program plants.
const CHANNELS: [&str; 7] =
    ["files", "message queues", "System V objects", "processes", "sockets", "locks", "watches"];
const WORD: &str = "canary-7f3a";

/// A server with a key for each of two tenants.
struct House {
    server: Server,
    keys: [String; 2],
}

impl House {
    async fn open(workers: &str, uid_base: &str) -> Self {
        Self::open_with(workers, uid_base, &[]).await
    }

    async fn open_with(workers: &str, uid_base: &str, more: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let keys = {
            let keys = Keys::open(data.path()).unwrap();
            ["acme", "rival"].map(|tenant| {
                let scopes = vec![Scope::Run, Scope::Read];
                keys.create(&KeySpec { tenant: tenant.into(), scopes, ..KeySpec::default() }).unwrap().0
            })
        };
        // User ids of its own: what other tests run at this moment must not count.
        let flags = [&["--workers", workers, "--uid-base", uid_base], more].concat();
        Self { server: Server::start_on(data, &flags).await, keys }
    }

    fn request(&self, tenant: usize, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/api/v1{path}", self.server.url);
        self.server.client.request(method, url).bearer_auth(&self.keys[tenant])
    }

    async fn submit(&self, tenant: usize, mode: &str) -> String {
        let tar = tar_of(&[("main.py", PROGRAM.as_bytes())]);
        let metadata = json!({"script_args": [mode, WORD], "artifacts": ["none"]});
        let form = reqwest::multipart::Form::new()
            .part("tar", reqwest::multipart::Part::bytes(tar))
            .text("metadata", metadata.to_string());
        let request = self.request(tenant, reqwest::Method::POST, "/exec/async").multipart(form);
        let body: Value = request.send().await.unwrap().json().await.unwrap();
        body["execution_id"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }

    async fn result(&self, tenant: usize, id: &str, wait: u32) -> Value {
        let path = format!("/executions/{id}?wait={wait}");
        let answer = self.request(tenant, reqwest::Method::GET, &path).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// Runs to the end.
    async fn run(&self, tenant: usize, mode: &str) -> Said {
        let id = self.submit(tenant, mode).await;
        let result = self.result(tenant, &id, 60).await;
        assert_eq!((&result["reason"], &result["exit_code"]), (&json!("exited"), &json!(0)), "{result:#}");
        Said::read(&result)
    }

    /// Starts one that plants and stays.
    async fn planted(&self, tenant: usize) -> String {
        let id = self.submit(tenant, "plant").await;
        let began = std::time::Instant::now();
        loop {
            let result = self.result(tenant, &id, 0).await;
            if Said::read(&result).has("planted", "everything") {
                return id;
            }
            assert_eq!(result["finished_at"], Value::Null, "{result:#}");
            assert!(began.elapsed() < std::time::Duration::from_secs(60), "{result:#}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn kill(&self, tenant: usize, id: &str) {
        let path = format!("/executions/{id}");
        let answer = self.request(tenant, reqwest::Method::DELETE, &path).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

/// The lines of the program: verb, channel, detail.
struct Said(Vec<[String; 3]>);

impl Said {
    fn read(result: &Value) -> Self {
        let lines = result["stdout"].as_str().unwrap_or_default().lines();
        Self(
            lines
                .map(|line| {
                    let mut words = line.splitn(3, '\t').map(str::to_owned);
                    std::array::from_fn(|_| words.next().unwrap_or_default())
                })
                .collect(),
        )
    }

    fn of<'a>(&'a self, verb: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter(move |line| line[0] == verb).map(|line| (line[1].as_str(), line[2].as_str()))
    }

    fn has(&self, verb: &str, channel: &str) -> bool {
        self.of(verb).any(|(found, _)| found == channel)
    }

    fn counts(&self) -> BTreeMap<&str, u64> {
        self.of("count").map(|(name, count)| (name, count.parse().unwrap())).collect()
    }

    fn assert_planted(&self) {
        for channel in CHANNELS {
            assert!(self.has("planted", channel), "{channel}: {:?}", self.0);
        }
    }

    fn assert_clean(&self) {
        assert!(self.has("looked", "everywhere"), "{:?}", self.0);
        let found: Vec<_> = self.of("found").collect();
        assert!(found.is_empty(), "another tenant's program could be seen: {found:#?}");
    }
}

#[tokio::test]
async fn no_channel_between_two_tenants_carries_a_canary() {
    let house = House::open("2", "20400").await;
    // Within one container everything is found: the program knows how to plant and how to look.
    let control = house.run(0, "control").await;
    control.assert_planted();
    for channel in CHANNELS {
        assert!(control.has("found", channel), "the control misses {channel}: {:?}", control.0);
    }
    let alone = house.run(1, "look").await;
    alone.assert_clean();

    let id = house.planted(0).await;
    Said::read(&house.result(0, &id, 0).await).assert_planted();
    let beside = house.run(1, "look").await;
    beside.assert_clean();
    assert_eq!(beside.counts(), alone.counts(), "one program took what the kernel counts for the other");
    assert!(alone.counts().values().all(|count| *count > 0), "{:?}", alone.counts());
    house.kill(0, &id).await;
    house.server.finish().await;
}

/// With one worker, the second program has the place and the user id of the first.
#[tokio::test]
async fn what_a_program_leaves_the_next_one_never_finds() {
    let house = House::open("1", "20500").await;
    let alone = house.run(1, "look").await;
    for (mode, killed) in [("leave", false), ("plant", true)] {
        if killed {
            let id = house.planted(0).await;
            house.kill(0, &id).await;
        } else {
            house.run(0, mode).await.assert_planted();
        }
        let after = house.run(1, "look").await;
        after.assert_clean();
        assert_eq!(after.counts(), alone.counts(), "{mode}: what the kernel counts was not given back");
    }
    house.server.finish().await;
}

/// One container serves both programs of a tenant, and the second finds nothing of the first: as if it had its own.
#[tokio::test]
async fn what_a_program_leaves_the_next_one_in_its_container_never_finds() {
    // Nothing waits that could be taken instead.
    let house = House::open_with("1", "20700", &["--reuse", "tenant", "--warm-max", "0"]).await;
    let label = house.server.label();
    let alone = house.run(0, "look").await;
    alone.assert_clean();
    let container = engine::containers(&label).await;
    assert_eq!(container.len(), 1, "one waits for its tenant");
    for _ in 0..2 {
        house.run(0, "leave").await.assert_planted();
        let after = house.run(0, "look").await;
        after.assert_clean();
        assert_eq!(after.counts(), alone.counts(), "what the kernel counts was not given back");
    }
    assert_eq!(engine::containers(&label).await, container, "all of it ran in one container");

    house.run(1, "look").await.assert_clean();
    let both = engine::containers(&label).await;
    assert!(both.len() == 2 && both.contains(&container[0]), "another tenant has its own: {both:?}");
    house.server.finish().await;
}
