//! An Engine that fails in one call, hangs, or goes away, and containers that others meddle with: every accepted
//! execution ends with its own exact result, and nothing is left.

use std::time::{Duration, Instant};

use bollard::query_parameters::RemoveContainerOptionsBuilder;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::engine;
use crate::fault_proxy::{Fault, FaultProxy, Mode, PING, Target};
use crate::server::{EXECBOX, Server};

/// What callers are promised: a refusal within a second. A shared machine gets some room.
const REFUSED: Duration = Duration::from_millis(1_300);
/// What callers are promised after the Engine's return.
const RESUMED: Duration = Duration::from_secs(5);

async fn server(proxy: &FaultProxy, more: &[&str]) -> Server {
    let host = proxy.host();
    // The calls of an execution are counted, so none is made in the background.
    Server::start_with(&[&["--docker-host", &host, "--warm-max", "0"], more].concat()).await
}

/// Each execution makes all the calls there are, for it has its own container.
async fn server_of_single_use(proxy: &FaultProxy) -> Server {
    server(proxy, &["--reuse", "never"]).await
}

/// Posts until it is accepted: a refusal is allowed while the Engine is doubted, and must say when to come again.
async fn run(server: &Server, body: &Value) -> Value {
    let began = Instant::now();
    loop {
        let answer =
            server.client.post(format!("{}/api/v1/eval", server.url)).json(body).send().await.unwrap();
        if answer.status() != 503 {
            assert_eq!(answer.status(), 200);
            return answer.json().await.unwrap();
        }
        assert!(answer.headers().contains_key("retry-after"));
        assert!(began.elapsed() < RESUMED, "still refused");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A program whose result is known to the byte.
fn program() -> Value {
    json!({"language": "bash", "code": "echo one; echo two >&2; echo three; exit 3"})
}

fn assert_exact(result: &Value, case: &str) {
    let got = (&result["status"], &result["reason"], &result["exit_code"]);
    assert_eq!(got, (&json!("completed"), &json!("exited"), &json!(3)), "{case}: {result:#}");
    assert_eq!((&result["stdout"], &result["stderr"]), (&json!("one\nthree\n"), &json!("two\n")), "{case}");
    assert!(result["attempt"].as_u64().unwrap() <= 2, "{case}: one fault costs one attempt: {result:#}");
}

/// One whose workspace is on the Engine's disk.
fn program_on_disk() -> Value {
    let mut program = program();
    program["config"] = json!({"disk_mb": 2_000});
    program
}

/// As SQLite is tested: the n-th call to the Engine fails, for every n, until an execution needs fewer calls.
async fn fail_each_call(program: &Value, calls: &[&'static str]) {
    let proxy = FaultProxy::start();
    let server = server_of_single_use(&proxy).await;
    run(&server, program).await;
    let kinds = [
        Fault::Refuse,
        Fault::Error,
        Fault::LoseAnswer,
        Fault::Cut(20),
        Fault::Delay(Duration::from_secs(3)),
    ];
    for fault in kinds {
        for n in 1.. {
            proxy.arm(Target::Nth(n), fault);
            let result = run(&server, program).await;
            engine::assert_gone(&server.label()).await;
            let call = proxy.disarm();
            assert_exact(&result, &format!("{fault:?} in call {n} ({call:?})"));
            if call.is_empty() {
                break;
            }
        }
        // A removal that is tried again may shift the numbers: each kind of call by its name, too.
        for &call in calls {
            if call == PING {
                readiness_is_stale().await;
            }
            proxy.arm(Target::Kind(call), fault);
            let result = run(&server, program).await;
            engine::assert_gone(&server.label()).await;
            assert_eq!(proxy.disarm(), [call], "{fault:?}");
            assert_exact(&result, &format!("{fault:?} in {call}"));
        }
    }
    server.finish().await;
}

#[tokio::test]
async fn whichever_call_fails_the_result_is_exact_and_nothing_is_left() {
    fail_each_call(&program(), &["create", "attach", "start", "remove", PING]).await;
}

#[tokio::test]
async fn the_same_with_a_workspace_on_disk() {
    fail_each_call(&program_on_disk(), &["create", "copy", "start", "remove"]).await;
}

/// A server that writes the runner again, because the Engine did not tell whether it is there, takes it away from under
/// all others that use it: their containers fail to start with "text file busy".
#[tokio::test]
async fn a_runner_that_is_there_is_never_written_again() {
    let proxy = FaultProxy::start();
    let server = server(&proxy, &[]).await;
    run(&server, &program()).await;
    for fault in [Fault::Refuse, Fault::Error, Fault::LoseAnswer] {
        proxy.arm(Target::Kind("start"), Fault::Error);
        proxy.arm(Target::Kind("stat"), fault);
        let result = run(&server, &program()).await;
        engine::assert_gone(&server.label()).await;
        assert_eq!(proxy.disarm(), ["start", "stat"]);
        assert_eq!((&result["stdout"], &result["attempt"]), (&json!("one\nthree\n"), &json!(3)), "{fault:?}");
        assert!(!proxy.take_calls().contains(&"copy".to_owned()), "{fault:?}");
    }
    server.finish().await;
}

/// Each of the calls that are missing here was measured to lose output, to hang or to answer wrongly: `wait`, `logs`,
/// `stats`, `archive` and `exec`; and attach comes before start.
#[tokio::test]
async fn an_execution_makes_four_calls_in_their_order() {
    let proxy = FaultProxy::start();
    let server = server_of_single_use(&proxy).await;
    run(&server, &program()).await;
    engine::assert_gone(&server.label()).await;
    proxy.take_calls();
    assert_eq!(run(&server, &program()).await["attempt"], 1);
    engine::assert_gone(&server.label()).await;
    assert_eq!(proxy.take_calls(), ["create", "attach", "start", "remove"]);
    assert_eq!(run(&server, &program_on_disk()).await["attempt"], 1);
    engine::assert_gone(&server.label()).await;
    assert_eq!(proxy.take_calls(), ["create", "copy", "attach", "start", "remove"], "one more for a volume");
    server.finish().await;
}

/// Calls that an execution makes only when something else went wrong.
#[tokio::test]
async fn a_second_fault_on_top_of_a_lost_stream_changes_nothing() {
    let proxy = FaultProxy::start();
    let server = server(&proxy, &[]).await;
    run(&server, &program()).await;
    for call in ["inspect", PING, "remove"] {
        for fault in [Fault::Refuse, Fault::Error, Fault::LoseAnswer] {
            proxy.arm(Target::Kind("attach"), Fault::Cut(300));
            proxy.arm(Target::Kind(call), fault);
            let result = run(&server, &program()).await;
            engine::assert_gone(&server.label()).await;
            proxy.disarm();
            assert_exact(&result, &format!("{fault:?} in {call}"));
        }
    }
    server.finish().await;
}

/// Runs it with the stream of the next container cut after so many bytes. Gives how many containers that took.
async fn run_cut(proxy: &FaultProxy, server: &Server, bytes: usize) -> usize {
    proxy.arm(Target::Kind("attach"), Fault::Cut(bytes));
    let result = run(server, &program()).await;
    assert_exact(&result, &format!("cut after {bytes} bytes"));
    proxy.take_calls().iter().filter(|call| *call == "attach").count()
}

/// The stream of the program's output ends after any number of bytes.
#[tokio::test]
async fn a_stream_that_is_cut_anywhere_is_never_half_a_result() {
    let proxy = FaultProxy::start();
    let server = server_of_single_use(&proxy).await;
    run(&server, &program()).await;
    let mut lost = 0;
    for bytes in (100..2_000).step_by(60) {
        let containers = run_cut(&proxy, &server, bytes).await;
        assert_eq!(proxy.disarm(), ["attach"]);
        if containers == 1 {
            break;
        }
        lost += 1;
    }
    assert!(lost >= 5, "the cuts must meet the stream, and met it {lost} times");
    server.finish().await;
}

/// The same in the first, the second or the third execution of a container, or between two.
#[tokio::test]
async fn a_stream_of_several_executions_that_is_cut_anywhere_is_never_half_a_result() {
    let proxy = FaultProxy::start();
    let server = server(&proxy, &["--reuse", "tenant"]).await;
    let mut lost = 0;
    for bytes in (100..2_500).step_by(100) {
        let docker = engine::engine().await;
        for container in engine::containers(&server.label()).await {
            // The server may be faster.
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            drop(docker.remove_container(&container, Some(options)).await);
        }
        proxy.take_calls();
        let mut containers = run_cut(&proxy, &server, bytes).await;
        for _ in 0..2 {
            assert_exact(&run(&server, &program()).await, &format!("after a cut at {bytes} bytes"));
            containers += proxy.take_calls().iter().filter(|call| *call == "attach").count();
        }
        assert_eq!(proxy.disarm(), ["attach"]);
        lost += containers - 1;
    }
    assert!(lost >= 10, "the cuts must meet the stream, and met it {lost} times");
    server.finish().await;
}

/// Attach has the shortest one of the calls that an execution waits for.
#[tokio::test]
async fn a_call_without_an_answer_has_a_deadline() {
    let proxy = FaultProxy::start();
    let server = server(&proxy, &[]).await;
    proxy.arm(Target::Kind("attach"), Fault::Hang);
    let began = Instant::now();
    let result = run(&server, &program()).await;
    assert_exact(&result, "attach hangs");
    assert_eq!(result["attempt"], 2);
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    server.finish().await;
}

/// The calls of a start, `version` and `info` among them: a process either does its work or says that the Engine fails.
#[tokio::test]
async fn a_start_that_fails_says_so_and_one_that_does_not_is_exact() {
    let proxy = FaultProxy::start();
    let host = proxy.host();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.sh");
    std::fs::write(&file, "echo one\n").unwrap();
    let mut hit = Vec::new();
    for n in 1.. {
        proxy.arm(Target::Nth(n), Fault::Error);
        let mut command = tokio::process::Command::new(EXECBOX);
        let output = command
            .args(["run", "--docker-host", &host])
            .arg(&file)
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .unwrap();
        let call = proxy.disarm();
        let stderr = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => assert_eq!(output.stdout, b"one\n", "{call:?}"),
            code => {
                assert_eq!(
                    (code, output.stdout.as_slice()),
                    (Some(125), b"".as_slice()),
                    "{call:?}: {stderr}"
                );
                assert!(stderr.to_lowercase().contains("engine"), "{call:?}: {stderr}");
            }
        }
        if call.is_empty() {
            break;
        }
        hit.extend(call);
    }
    for call in ["version", "info"] {
        assert!(hit.iter().any(|hit| hit == call), "never met {call}: {hit:?}");
    }
}

/// An import over a doubt would move the empty image's tag, and leave the one before without a name.
#[tokio::test]
async fn an_empty_image_that_is_there_is_never_imported_again() {
    let proxy = FaultProxy::start();
    let list = || async {
        let mut command = tokio::process::Command::new(EXECBOX);
        command.args(["images", "list", "--docker-host", &proxy.host()]).output().await.unwrap().status.code()
    };
    assert_eq!(list().await, Some(0), "the image is there now");
    proxy.take_calls();
    list().await;
    let untroubled = proxy.take_calls();
    let creations = |calls: &[String]| calls.iter().filter(|call| *call == "create").count();
    // The volume is made, and the next call looks for the image.
    let volume = untroubled.iter().position(|call| call == "create").unwrap();
    for fault in [Fault::Error, Fault::Refuse] {
        proxy.arm(Target::Nth(volume + 2), fault);
        list().await;
        let (troubled, usual) = (creations(&proxy.take_calls()), creations(&untroubled));
        assert_eq!(proxy.disarm(), ["json"], "{fault:?}");
        assert!(troubled <= usual, "{fault:?}: something was created {troubled} times, not {usual}");
    }
}

/// Refused within a second (figure P14), with a time to come again.
async fn assert_refused(server: &Server) {
    let began = Instant::now();
    let url = format!("{}/api/v1/eval", server.url);
    let answer = server.client.post(url).json(&program()).send().await.unwrap();
    let took = began.elapsed();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    println!("P14  refused after {took:.2?} (≤ {REFUSED:?})");
    assert!(took < REFUSED, "the refusal took {took:?}");
}

/// The readiness that was asked for a moment ago is believed for a second.
async fn readiness_is_stale() {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
}

const SLOW: &str = "echo up; sleep 1; echo done";

/// One that runs and four that wait, two of them already with a worker or about to be.
async fn load(server: &Server) -> (String, Vec<String>) {
    let running = server.submit_code("bash", SLOW).await;
    server.wrote(&running, "up").await;
    let mut waiting = Vec::new();
    for number in 0..4 {
        waiting.push(server.submit_code("bash", &format!("echo {number}")).await);
    }
    (running, waiting)
}

async fn assert_resumed(server: &Server, running: &str, waiting: &[String], attempts: u64) {
    let back = Instant::now();
    for (number, id) in waiting.iter().enumerate() {
        let result = server.wait(id).await;
        assert_eq!(result["stdout"], format!("{number}\n"), "{result:#}");
        assert!(result["attempt"].as_u64().unwrap() <= 2, "waiting costs no attempts: {result:#}");
    }
    let result = server.wait(running).await;
    assert_eq!(
        (&result["reason"], &result["stdout"]),
        (&json!("exited"), &json!("up\ndone\n")),
        "{result:#}"
    );
    assert!(result["attempt"].as_u64().unwrap() <= attempts, "{result:#}");
    let took = back.elapsed();
    println!("P14  all that ran and waited ended {took:.2?} after the Engine's return (≤ {RESUMED:?})");
    assert!(took < RESUMED, "work resumed after {took:?}");
    // A refusal may be remembered for a second.
    assert_exact(&run(server, &program()).await, "after the return");
}

#[tokio::test]
async fn a_hanging_engine_refuses_new_work_keeps_the_queue_and_resumes() {
    let proxy = FaultProxy::start();
    let server = server(&proxy, &["--workers", "1"]).await;
    run(&server, &program()).await;
    let (running, waiting) = load(&server).await;
    proxy.set(Mode::Hang);
    readiness_is_stale().await;
    for _ in 0..3 {
        assert_refused(&server).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    proxy.set(Mode::Pass);
    assert_resumed(&server, &running, &waiting, 2).await;
    server.finish().await;
}

#[tokio::test]
async fn an_engine_that_goes_away_costs_what_ran_one_attempt_and_what_waits_none() {
    let proxy = FaultProxy::start();
    let server = server(&proxy, &["--workers", "1"]).await;
    run(&server, &program()).await;
    let (running, waiting) = load(&server).await;
    proxy.set(Mode::Gone);
    readiness_is_stale().await;
    for _ in 0..3 {
        assert_refused(&server).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for id in waiting.iter().chain([&running]) {
        let state = server.get(id).await;
        assert!(matches!(state["status"].as_str(), Some("pending" | "running")), "{state:#}");
    }
    proxy.set(Mode::Pass);
    assert_resumed(&server, &running, &waiting, 2).await;
    server.finish().await;
}

#[tokio::test]
async fn a_kill_does_not_wait_for_the_engine() {
    for mode in [Mode::Gone, Mode::Hang] {
        let proxy = FaultProxy::start();
        let server = server(&proxy, &["--workers", "2"]).await;
        run(&server, &program()).await;
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(server.submit_code("bash", "echo up; sleep 30").await);
        }
        server.wrote(&ids[0], "up").await;
        proxy.set(mode);
        readiness_is_stale().await;
        assert_refused(&server).await;
        for id in ids.iter().rev() {
            let began = Instant::now();
            assert_eq!(server.kill(id).await["status"], "killed");
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{mode:?}: the kill took {:?}",
                began.elapsed()
            );
        }
        proxy.set(Mode::Pass);
        server.finish().await;
    }
}

#[tokio::test]
async fn a_drain_ends_although_the_engine_is_away() {
    for mode in [Mode::Gone, Mode::Hang] {
        let proxy = FaultProxy::start();
        let mut server = server(&proxy, &["--workers", "1", "--drain-seconds", "1"]).await;
        run(&server, &program()).await;
        let (running, waiting) = load(&server).await;
        proxy.set(mode);
        readiness_is_stale().await;
        assert_refused(&server).await;
        server.signal(Signal::SIGTERM);
        assert!(server.ended(Duration::from_secs(6)).await.success());
        // What it had to leave goes with the next start, and the executions go on.
        let (label, data) =
            (server.label(), std::mem::replace(&mut server.data, tempfile::tempdir().unwrap()));
        proxy.set(Mode::Pass);
        let next = Server::start_on(data, &[]).await;
        assert_eq!(next.label(), label);
        assert_eq!(next.wait(&running).await["stdout"], "up\ndone\n");
        for (number, id) in waiting.iter().enumerate() {
            assert_eq!(next.wait(id).await["stdout"], format!("{number}\n"));
        }
        next.finish().await;
    }
}

#[tokio::test]
async fn a_container_killed_from_outside_is_no_result_of_the_program() {
    let server = Server::start().await;
    for signal in ["KILL", "TERM"] {
        let id = server.submit_code("bash", "echo up; sleep 2; echo done").await;
        server.wrote(&id, "up").await;
        let container = engine::running(&server.label()).await.id.unwrap();
        engine::kill_container(&container, signal).await;
        let result = server.wait(&id).await;
        assert_eq!((&result["reason"], &result["exit_code"]), (&json!("exited"), &json!(0)), "{result:#}");
        assert_eq!(result["stdout"], "up\ndone\n");
        engine::assert_idle(&engine::engine().await, &server.label()).await;
    }
    server.finish().await;
}

#[tokio::test]
async fn a_container_paused_from_outside_has_not_timed_out() {
    let server = Server::start().await;
    let url = format!("{}/api/v1/exec/async", server.url);
    let body = json!({"language": "bash", "code": "echo up; sleep 0.7; echo done", "config": {"timeout_seconds": 2}});
    let answer = server.client.post(url).json(&body).send().await.unwrap();
    let id = answer.json::<Value>().await.unwrap()["execution_id"].as_str().unwrap().to_owned();
    server.wrote(&id, "up").await;
    engine::pause_container(&engine::running(&server.label()).await.id.unwrap()).await;
    let result = server.wait(&id).await;
    assert_eq!((&result["reason"], &result["attempt"]), (&json!("exited"), &json!(2)), "{result:#}");
    assert_eq!(result["stdout"], "up\ndone\n");
    server.finish().await;
}
