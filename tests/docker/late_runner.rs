//! Runners that do not get to say how an execution ended: the server answers by its own clock, and keeps the place of what
//! may still run until the Engine has removed it.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::engine;
use crate::fault_proxy::{Fault, FaultProxy, Target};
use crate::patience::slower;
use crate::projects::{repository, tar};
use crate::server::{Server, tested_reuse};
use crate::sweep::processes_of;

/// How the kernel calls a runner.
const RUNNER: &str = "execbox";
/// After its deadline a runner has 500 ms; a shared machine needs some more to notice.
const LATE: Duration = Duration::from_millis(1_200);

/// The runners of the container in which a program with this command line runs: its first process, and with
/// `--reuse tenant` the first of its jail.
async fn runners(server: &Server, program: &str) -> Vec<Pid> {
    let began = Instant::now();
    loop {
        if let Some(id) = engine::container_of(&server.label(), program).await {
            let group = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|process| {
                let in_it = std::fs::read_to_string(process.path().join("cgroup")).ok()?.contains(&id);
                let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
                let pid = process.file_name().to_str()?.parse().ok()?;
                (in_it && name.trim() == RUNNER).then_some(Pid::from_raw(pid))
            });
            return group.collect();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the program never ran");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn submit(server: &Server, body: &Value) -> String {
    let url = format!("{}/api/v1/exec/async", server.url);
    let answer: Value = server.client.post(url).json(body).send().await.unwrap().json().await.unwrap();
    answer["execution_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn after_start(result: &Value) -> Duration {
    let at = |field: &str| result[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    Duration::try_from(at("finished_at").duration_since(at("started_at"))).unwrap()
}

/// Burns a processor, so that its use can be held against its wall time.
const BURNS: &str = "print('before', flush=True)\nopen('left', 'w').write('x')\nwhile True: pass";

#[tokio::test]
async fn a_stopped_runner_delays_no_answer_and_hides_no_use() {
    let server = Server::start_with(&["--workers", "2"]).await;
    let limit = 2 * u64::from(slower());
    let body = json!({"language": "python", "files": [{"name": "burns.py", "content": BURNS}], "entrypoint": "burns.py",
                      "config": {"timeout_seconds": limit}});
    let id = submit(&server, &body).await;
    server.wrote(&id, "before").await;
    let runners = runners(&server, "burns.py").await;
    assert!(!runners.is_empty());
    runners.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
    let result = server.wait(&id).await;
    let told = (&result["status"], &result["reason"], &result["exit_code"], &result["attempt"]);
    assert_eq!(told, (&json!("failed"), &json!("timed_out"), &json!(137), &json!(1)), "{result:#}");
    assert_eq!(result["stdout"], "before\n", "{result:#}");
    let took = after_start(&result);
    assert!(took < Duration::from_secs(limit) + LATE * slower(), "{took:?} for {limit} s: {result:#}");
    let (wall, cpu) = (usage(&result, "wall_ms"), usage(&result, "cpu_ms"));
    let limit_ms = Duration::from_secs(limit).as_secs_f64() * 1000.0;
    assert!(wall >= limit_ms && wall < limit_ms + 1_500.0, "{wall} ms: {result:#}");
    assert!(cpu > limit_ms / 4.0 && cpu <= wall * 1.2, "{cpu} ms of {wall}: {result:#}");
    // A container that has served others does not tell one execution's.
    if tested_reuse().as_deref() != Some("tenant") {
        assert!(usage(&result, "memory_peak_bytes") > 1e6, "{result:#}");
    }
    assert_eq!(result["truncated"]["artifacts"], true, "{result:#}");
    assert!(result["notices"][0].as_str().unwrap().contains("no artifacts were collected"), "{result:#}");
    // Frozen at once, and gone soon.
    let began = Instant::now();
    while runners.iter().any(|pid| kill(*pid, None).is_ok()) {
        assert!(began.elapsed() < Duration::from_secs(1) * slower(), "it lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.finish().await;
}

fn usage(result: &Value, field: &str) -> f64 {
    result["usage"][field].as_f64().unwrap_or_else(|| panic!("no {field}: {result:#}"))
}

#[tokio::test]
async fn a_kill_needs_no_word_of_a_stopped_runner() {
    let server = Server::start_with(&["--workers", "2"]).await;
    let id = server.submit_code("bash", "echo up; sleep 61").await;
    server.wrote(&id, "up").await;
    let runners = runners(&server, "sleep 61").await;
    runners.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
    let began = Instant::now();
    assert_eq!(server.kill(&id).await["status"], "killed");
    assert!(began.elapsed() < LATE * slower(), "{:?}", began.elapsed());
    let result = server.get(&id).await;
    assert_eq!((&result["reason"], &result["stdout"]), (&json!("killed"), &json!("up\n")), "{result:#}");
    server.finish().await;
}

/// The answer comes at once; the worker that gave it takes nothing else while the container may still run.
#[tokio::test]
async fn a_place_is_taken_until_the_engine_has_removed_what_ran_in_it() {
    const REMOVAL: Duration = Duration::from_secs(4);
    let proxy = FaultProxy::start();
    let host = proxy.host();
    let server = Server::start_with(&["--docker-host", &host, "--warm-max", "0", "--workers", "1"]).await;
    let id = server.submit_code("bash", "echo up; sleep 62").await;
    server.wrote(&id, "up").await;
    for call in ["pause", "kill"] {
        proxy.arm(Target::Kind(call), Fault::Error);
    }
    proxy.arm(Target::Kind("remove"), Fault::Delay(REMOVAL));
    let runners = runners(&server, "sleep 62").await;
    runners.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
    let began = Instant::now();
    assert_eq!(server.kill(&id).await["status"], "killed");
    assert!(began.elapsed() < LATE * slower(), "{:?}", began.elapsed());
    let next = server.eval(&json!({"language": "bash", "code": "echo next"})).await;
    assert_eq!(next["stdout"], "next\n", "{next:#}");
    assert!(began.elapsed() > REMOVAL, "the next began beside what was left: {:?}", began.elapsed());
    assert_eq!(proxy.disarm().len(), 3);
    server.finish().await;
}

/// The worst that a program can do about its runner at once.
#[tokio::test]
async fn who_reaches_for_the_runner_ends_in_time_and_leaves_no_process() {
    const UIDS: std::ops::Range<u32> = 58_000..58_100;
    let server = Server::start_with(&["--workers", "1", "--uid-base", "58000", "--warm-max", "0"]).await;
    let archive = tar(&repository("tests/fixtures/reaches_for_the_runner"));
    let limit = u64::from(slower());
    let config = json!({"timeout_seconds": limit, "pids": 128});
    let result = server.sync(&archive, &json!({"language": "python", "config": config})).await;
    assert_eq!(
        (&result["reason"], &result["stdout"]),
        (&json!("timed_out"), &json!("before\n")),
        "{result:#}"
    );
    let before = result["timings"]["sandbox_ms"].as_f64().unwrap();
    let took = after_start(&result).as_secs_f64() * 1000.0 - before;
    println!("over its deadline by {:.0} ms", took - Duration::from_secs(limit).as_secs_f64() * 1000.0);
    assert!(
        took < (Duration::from_secs(limit) + LATE * slower()).as_secs_f64() * 1000.0,
        "{took} ms: {result:#}"
    );
    let began = Instant::now();
    while !processes_of(&UIDS).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(1) * slower(), "{:?}", processes_of(&UIDS));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.finish().await;
}

/// What libraries and runtimes do about their own threads still works: the filter refuses numbers of others only.
#[tokio::test]
async fn programs_place_and_limit_themselves() {
    let server = Server::start().await;
    const PYTHON: &str = "
import os, resource
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
assert len(os.sched_getaffinity(0)) == 1
os.setpriority(os.PRIO_PROCESS, 0, 5)
assert os.nice(1) == 6
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, 256)
assert resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE) == (256, 256)
print('done')";
    const NODE: &str = "
const os = require('os'), { Worker, isMainThread, parentPort } = require('worker_threads');
if (!isMainThread) { parentPort.postMessage(6 * 7); } else {
  os.setPriority(0, 5);
  let left = 4;
  for (let i = 0; i < 4; i++) new Worker(__filename).on('message', m => { if (m === 42 && --left === 0) console.log('done'); });
}";
    const JAVA: &str = "
import java.util.stream.*;
public class Main { public static void main(String[] args) throws Exception {
  Thread[] all = new Thread[8];
  for (int i = 0; i < 8; i++) { all[i] = new Thread(() -> System.gc()); all[i].setPriority(1 + i); all[i].start(); }
  for (Thread one : all) one.join();
  if (IntStream.range(0, 100000).parallel().sum() == 704982704) System.out.println(\"done\");
} }";
    const NUMPY: &str = "
import numpy, threadpoolctl
from sklearn.ensemble import HistGradientBoostingRegressor
rows = numpy.random.default_rng(1).random((2000, 10))
(rows.T @ rows).sum()
HistGradientBoostingRegressor(max_iter=5).fit(rows, rows[:, 0]).predict(rows)
assert 2 in {pool['num_threads'] for pool in threadpoolctl.threadpool_info()}
print('done')";
    const GO: &str = "
package main
import (\"fmt\"; \"runtime\"; \"sync\")
func main() { var all sync.WaitGroup
  for i := 0; i < 8; i++ { all.Add(1); go func() { defer all.Done(); runtime.LockOSThread(); runtime.GC() }() }
  all.Wait(); fmt.Println(\"done\") }";
    const CSHARP: &str = "
using System; using System.Threading; using System.Linq;
class Program { static void Main() {
  var all = Enumerable.Range(0, 4).Select(i => new Thread(() => GC.Collect()) { Priority = (ThreadPriority) i }).ToList();
  all.ForEach(one => one.Start()); all.ForEach(one => one.Join());
  Console.WriteLine(\"done\"); } }";
    let threads = json!({"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"});
    for (language, file, code) in [
        ("python", "main.py", PYTHON),
        ("node", "main.js", NODE),
        ("java", "Main.java", JAVA),
        ("python-data", "main.py", NUMPY),
        ("go", "main.go", GO),
        ("csharp", "Program.cs", CSHARP),
    ] {
        let body = json!({"language": language, "files": [{"name": file, "content": code}], "env_vars": threads,
                          "config": {"memory_mb": 1024, "cpus": 2.0}});
        let result = server.eval(&body).await;
        // Nothing else: Mono tells of refusals there.
        assert_eq!(
            (&result["stdout"], &result["stderr"]),
            (&json!("done\n"), &Value::Null),
            "{language}: {result:#}"
        );
    }
    server.finish().await;
}
