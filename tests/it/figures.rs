//! Kills that race with an execution's own end, artifacts that are read while they go, and guessed ids. `make figures`
//! runs the full counts and prints what was measured.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::fake_sandbox::ARTIFACTS;
use crate::keys::{User, shape, spec};
use crate::test_app::TestApp;

/// How many: a part of it with every test run, all of it for `make figures`.
#[allow(clippy::disallowed_methods, reason = "a test has no settings of its own")]
fn count(part: usize, all: usize) -> usize {
    if std::env::var_os("FIGURES").is_some() { all } else { part }
}

fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort();
    samples[(samples.len() * percent / 100).min(samples.len() - 1)]
}

/// What everybody who asked was told.
async fn race(app: &TestApp, number: usize) -> (BTreeSet<String>, Duration) {
    let path = app.submit(&format!("sleep {}", number % 32)).await;
    let kill = async |pause: u64| {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let began = Instant::now();
        let answer = app.delete(&path).await;
        (answer.assert_ok()["status"].as_str().unwrap().to_owned(), began.elapsed())
    };
    let read = async || app.get(&format!("{path}?wait=10")).await.assert_ok().clone();
    let pause = (number / 32 % 16) as u64;
    let (first, second, waited) = tokio::join!(kill(pause), kill(pause + 1), read());
    let last = read().await;
    assert_eq!(waited, last, "a result changed");
    let result = last["status"].as_str().unwrap().to_owned();
    assert_eq!(last["reason"], if result == "killed" { json!("killed") } else { json!("exited") }, "{last}");
    (BTreeSet::from([first.0, second.0, result]), first.1.max(second.1))
}

/// Figure P9, over the fake sandbox.
#[tokio::test]
async fn a_thousand_kills_that_race_with_the_end_have_one_result_each() {
    const RACES: usize = 1000;
    let app = TestApp::with(|config| config.workers = Some(16)).await;
    let races = futures::stream::iter(0..RACES).map(|number| race(&app, number));
    let ended: Vec<_> = races.buffer_unordered(16).collect().await;
    let mut results = BTreeMap::<_, usize>::new();
    let mut times = Vec::new();
    for (told, time) in ended {
        assert_eq!(told.len(), 1, "two results: {told:?}");
        *results.entry(told.into_iter().next().unwrap()).or_default() += 1;
        times.push(time);
    }
    assert_eq!(results.keys().collect::<Vec<_>>(), ["completed", "killed"], "no race was won or none lost");
    let metrics = app.client.get(app.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let finished = metrics.lines().filter(|line| line.starts_with("execbox_executions_finished_total{"));
    let finished: usize =
        finished.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(finished, RACES, "each finishes once");
    let (median, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!("P9  {RACES} races, one result each: {results:?}; a kill takes {median:?}, p99 {p99:?}");
    app.finish().await;
}

#[tokio::test]
async fn an_artifact_that_is_read_while_it_goes_is_whole_or_not_there() {
    const KIB: usize = 2048;
    const STEP: Duration = Duration::from_micros(200);
    let app = TestApp::with(|config| config.workers = Some(4)).await;
    let (mut whole, mut gone) = (0, 0);
    // By how many steps the readers start after the purge: a later start next time when all was there, an earlier one when
    // all was gone, and so always close to the race, however busy the machine is.
    let mut behind = 0_i32;
    let steps = |count: i32| tokio::time::sleep(STEP * u32::try_from(count).unwrap_or(0));
    for _ in 0..200 {
        let path = app.submit(&format!("artifacts {KIB}")).await;
        app.until(&path, "completed").await;
        let read = async |suffix: &str| {
            steps(behind).await;
            let answer = app.client.get(app.url(&format!("{path}{suffix}"))).send().await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.bytes().await.unwrap().len())
        };
        let purge = async {
            steps(-behind).await;
            app.delete(&format!("{path}?purge=true")).await.assert_ok();
        };
        let (one, all, ()) = tokio::join!(read("/artifacts/large.bin"), read("/artifacts.tar"), purge);
        let block = |size: usize| 512 + size.next_multiple_of(512);
        let tar = ARTIFACTS.iter().map(|(_, content)| block(content.len())).sum::<usize>()
            + block(KIB << 10)
            + 1024;
        for ((status, bytes), expected) in [(one, KIB << 10), (all, tar)] {
            match status {
                200 => assert_eq!(bytes, expected, "a part of it"),
                other => assert_eq!(other, 404),
            }
            let (count, change) = if status == 200 { (&mut whole, 1) } else { (&mut gone, -1) };
            *count += 1;
            behind += change;
        }
        app.get(&path).await.assert_problem(404, "not_found");
    }
    assert!(whole > 0 && gone > 0, "{whole} whole, {gone} gone: no race");
    app.finish().await;
}

/// Ids near a real one, of the same time, and at random.
fn guess(real: &str, number: usize) -> String {
    let uuid = uuid::Uuid::parse_str(real.trim_start_matches("/api/v1/executions/exe_")).unwrap();
    // Of a random id, 122 bits: version and variant stand in the others.
    const FIXED: u128 = 0xf000_c000_0000_0000_0000;
    let near = match number % 4 {
        0 => uuid.as_u128().wrapping_add(1 + number as u128 / 4),
        1 => uuid.as_u128() ^ (1 << (number / 4 % 62)),
        2 => uuid.as_u128() ^ (1 << (80 + number / 4 % 48)),
        _ => uuid::Uuid::new_v4().as_u128(),
    };
    let near = uuid::Uuid::from_u128(near & !FIXED | uuid.as_u128() & FIXED);
    if near == uuid { guess(real, number + 3) } else { format!("/api/v1/executions/exe_{near}") }
}

/// Figure P17 and case G01: what is not there, and what is another's, are told in the same words and time.
#[tokio::test]
async fn guessed_ids_are_answered_as_another_tenants_in_words_and_time() {
    let guesses = count(4_000, 100_000);
    let app = TestApp::start().await;
    let (owner, other) = (User::new(&app, &spec("a")), User::new(&app, &spec("b")));
    let real = owner.submit("artifacts").await;
    owner.get(&format!("{real}?wait=5")).await.assert_ok();
    let expected = shape(other.ask(Method::GET, &real, None).await).await;
    assert_eq!(expected.0, 404);
    let worker = async |first: usize| {
        let mut times = [Vec::new(), Vec::new()];
        for number in (first..guesses).step_by(8) {
            let began = Instant::now();
            let guessed = other.ask(Method::GET, &guess(&real, number), None).await;
            times[0].push(began.elapsed());
            assert_eq!(shape(guessed).await, expected, "guess {number}");
            // In turn, so that whatever else the machine does slows both.
            if number % 10 < 8 {
                let began = Instant::now();
                let foreign = other.ask(Method::GET, &real, None).await;
                times[1].push(began.elapsed());
                assert_eq!(foreign.status(), 404);
            }
        }
        times
    };
    let times = futures::future::join_all((0..8).map(worker)).await;
    let [unknown, foreign] = [0, 1].map(|kind| {
        let mut all: Vec<_> = times.iter().flat_map(|times| times[kind].iter().copied()).collect();
        percentile(&mut all, 50)
    });
    let ratio = foreign.as_secs_f64() / unknown.as_secs_f64();
    println!(
        "P17 {guesses} guessed ids: none answers; unknown {unknown:?}, another's {foreign:?}, ratio {ratio:.2}"
    );
    assert!((0.7..1.4).contains(&ratio), "{ratio}");
    assert_eq!(owner.get(&real).await.assert_ok()["status"], Value::from("completed"));
    app.finish().await;
}
