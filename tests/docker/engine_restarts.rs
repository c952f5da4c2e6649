//! An Engine that is stopped, killed or halted while a program runs. What the program's container then exits with
//! (143, 137) is never the program's result.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::engine;
use crate::private_engine::PrivateEngine;
use crate::server::{EXECBOX, Server};

/// What callers are promised after the Engine's return, and the program's own two seconds, on a shared machine.
const RESUMED: Duration = Duration::from_secs(5 + 2);
/// How long a halted Engine stays so.
const HALT: Duration = Duration::from_secs(4);

/// The image that this build of execbox runs bash in.
async fn bash_image() -> String {
    let built = tokio::process::Command::new(EXECBOX)
        .args(["images", "build", "bash"])
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(built.success());
    execbox::runtime::Catalogue::load(None).unwrap().resolve("bash").unwrap().image_name()
}

/// Stops the Engine in one way, and brings it back.
async fn restart(private: &mut PrivateEngine, signal: Signal) {
    private.signal(signal);
    if signal == Signal::SIGSTOP {
        tokio::time::sleep(HALT).await;
        private.signal(Signal::SIGCONT);
    } else {
        private.start_again().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_restarts_never_makes_a_result() {
    let signals = [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGKILL, Signal::SIGTERM];
    restarts(&[], &signals).await;
}

/// The container outlives the Engine, but not the stream to its runner.
#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_that_leaves_containers_running() {
    restarts(&["--live-restore"], &[Signal::SIGTERM, Signal::SIGKILL]).await;
}

async fn restarts(flags: &'static [&'static str], signals: &[Signal]) {
    let wrong = run_through(flags, signals).await.into_iter().filter_map(|restart| restart.wrong);
    assert_eq!(wrong.collect::<Vec<_>>(), [""; 0]);
}

/// One restart, and the program that ran meanwhile.
struct Restart {
    signal: Signal,
    /// From the Engine's return to the program's result.
    resumed: Duration,
    attempt: u64,
    /// What was not as promised.
    wrong: Option<String>,
}

async fn run_through(flags: &'static [&'static str], signals: &[Signal]) -> Vec<Restart> {
    let mut private = PrivateEngine::start(flags).await;
    private.load(&bash_image().await).await;
    let host = private.host();
    let server = Server::start_with(&["--docker-host", &host]).await;
    let mut done = Vec::new();
    for &signal in signals {
        let id = server.submit_code("bash", "echo up; sleep 2; echo done; exit 3").await;
        server.wrote(&id, "up").await;
        restart(&mut private, signal).await;
        let back = Instant::now();
        let result = server.wait(&id).await;
        let (resumed, attempt) = (back.elapsed(), result["attempt"].as_u64().unwrap());
        let got = (&result["status"], &result["reason"], &result["exit_code"], &result["stdout"]);
        let right = (&json!("completed"), &json!("exited"), &json!(3), &json!("up\ndone\n"));
        let fine = got == right && attempt <= 2 && resumed < RESUMED;
        let wrong = (!fine).then(|| format!("{signal}, resumed after {resumed:?}: {result:#}"));
        done.push(Restart { signal, resumed, attempt, wrong });
        engine::assert_idle(&private.docker(), &server.label()).await;
    }
    server.finish().await;
    done
}

/// This many in all, half of them with an Engine that leaves containers running. Prints a table; false when a program got
/// a result that is not its own, or waited too long.
#[allow(dead_code, reason = "benches/chaos runs it")]
pub async fn many(count: usize) -> bool {
    let signals: Vec<Signal> = [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGSTOP]
        .into_iter()
        .cycle()
        .take(count.div_ceil(2))
        .collect();
    let mut fine = true;
    println!("P2: restarts of an Engine under a running program");
    println!(
        "  {:<28} {:>8} {:>8} {:>9} {:>9} {:>6}",
        "", "restarts", "attempt2", "median", "longest", "wrong"
    );
    for (name, flags, signals) in
        [("", &[][..], &signals[..]), (", live-restore", &["--live-restore"], &signals[..count / 2])]
    {
        let done = run_through(flags, signals).await;
        for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGSTOP] {
            let of: Vec<&Restart> = done.iter().filter(|restart| restart.signal == signal).collect();
            let mut times: Vec<Duration> = of.iter().map(|restart| restart.resumed).collect();
            times.sort_unstable();
            let Some(longest) = times.last() else { continue };
            let wrong: Vec<&String> = of.iter().filter_map(|restart| restart.wrong.as_ref()).collect();
            let again = of.iter().filter(|restart| restart.attempt > 1).count();
            println!(
                "  {:<28} {:>8} {again:>8} {:>9.2?} {longest:>9.2?} {:>6}",
                format!("{signal}{name}"),
                of.len(),
                times[times.len() / 2],
                wrong.len()
            );
            wrong.iter().for_each(|wrong| eprintln!("VIOLATION: {wrong}"));
            fine &= wrong.is_empty();
        }
    }
    fine
}
