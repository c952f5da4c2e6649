//! Artifacts: the list, one file, all of them, and names that try to get out.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::json;

use crate::fake_sandbox::ARTIFACTS;
use crate::test_app::{Answer, TestApp};

async fn with_artifacts() -> (TestApp, String) {
    let app = TestApp::start().await;
    let path = app.submit("artifacts").await;
    app.until(&path, "completed").await;
    (app, path)
}

#[tokio::test]
async fn the_list_is_the_same_in_the_result() {
    let (app, path) = with_artifacts().await;
    let list = app.get(&format!("{path}/artifacts")).await;
    let items = &list.assert_ok()["artifacts"];
    assert_eq!(list.body["truncated"], false);
    assert_eq!(items, &app.get(&path).await.body["artifacts"]);
    assert_eq!(items[0]["path"], "plot.png");
    assert_eq!((&items[0]["size"], &items[0]["mime"]), (&json!(15), &json!("image/png")));
    assert_eq!(items[3]["sha256"], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    app.finish().await;
}

#[tokio::test]
async fn a_file_comes_back_exactly_and_no_browser_shows_it() {
    let (app, path) = with_artifacts().await;
    for (encoded, (_, content)) in
        ["plot.png", "out/b%C3%A4r%20%22x%22.html", "out%2F100%25.txt", "empty"].iter().zip(ARTIFACTS)
    {
        let response = app.client.get(app.url(&format!("{path}/artifacts/{encoded}"))).send().await.unwrap();
        assert_eq!(response.status(), 200, "{encoded}");
        let headers = response.headers().clone();
        assert_eq!(headers["content-type"], "application/octet-stream");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert!(headers["content-security-policy"].to_str().unwrap().starts_with("sandbox"));
        assert!(headers["content-disposition"].to_str().unwrap().starts_with("attachment; filename="));
        assert_eq!(headers["content-length"], content.len().to_string());
        assert_eq!(response.bytes().await.unwrap(), content, "{encoded}");
    }
    app.finish().await;
}

#[tokio::test]
async fn all_of_them_come_as_a_tar_archive() {
    let (app, path) = with_artifacts().await;
    let response = app.client.get(app.url(&format!("{path}/artifacts.tar"))).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-tar");
    let body = response.bytes().await.unwrap();
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(&*body).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
    }
    let expected: BTreeMap<_, _> =
        ARTIFACTS.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect();
    assert_eq!(found, expected);
    app.finish().await;
}

#[tokio::test]
async fn names_that_try_to_get_out_are_only_unknown() {
    let (app, path) = with_artifacts().await;
    for name in [
        "../../lock",
        "..%2f..%2flock",
        "%2e%2e/%2e%2e/lock",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        "plot.png%00",
        "%00",
        "plot.png/",
        "./plot.png",
        "PLOT.PNG",
        "out%252F100%25.txt",
        "0",
        "%ff%fe",
        "",
        "out",
        "..",
        "%5c..%5cplot.png",
    ] {
        // The client library tidies such paths, so the request is written by hand.
        let target = format!("{path}/artifacts/{name}");
        let answer = crate::bodies::raw(
            &app,
            &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{name}: {answer}");
        assert!(answer.contains(r#""code":"not_found""#), "{name}: {answer}");
    }
    for name in ["%", "%zz", "plot%2"] {
        let target = format!("{path}/artifacts/{name}");
        let answer = crate::bodies::raw(
            &app,
            &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
    }
    app.finish().await;
}

#[tokio::test]
async fn before_the_end_there_are_none() {
    let app = TestApp::start().await;
    let path = app.submit("hang").await;
    assert_eq!(app.get(&format!("{path}/artifacts")).await.assert_ok()["artifacts"], json!([]));
    app.get(&format!("{path}/artifacts/plot.png")).await.assert_problem(404, "not_found");
    app.get(&format!("{path}/artifacts.tar")).await.assert_problem(404, "not_found");
    app.delete(&path).await;
    app.finish().await;
}

/// Changes one byte in the middle of the file with this content hash.
fn change(app: &TestApp, sha256: &str) {
    let file = app.data().join("blobs").join(&sha256[..2]).join(&sha256[2..]);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// What was changed on the disk is never given out whole: a small file is told as our failure, of a large one the answer
/// breaks off, and so does the archive of all.
#[tokio::test]
async fn a_file_that_was_changed_on_the_disk_is_never_given_out() {
    let app = TestApp::start().await;
    for (behaviour, status) in [("artifacts", 500), ("large_artifact", 200)] {
        let path = app.submit(behaviour).await;
        let result = app.until(&path, "completed").await;
        let artifact = &result["artifacts"][0];
        let url = app.url(&format!("{path}/artifacts/{}", artifact["path"].as_str().unwrap()));
        assert_eq!(app.client.get(&url).send().await.unwrap().status(), 200);
        change(&app, artifact["sha256"].as_str().unwrap());
        let answer = app.client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), status, "{behaviour}");
        if status == 200 {
            assert!(answer.bytes().await.is_err(), "{behaviour}: it came whole");
        }
        // A short one may break off before its head is out.
        if let Ok(all) = app.client.get(app.url(&format!("{path}/artifacts.tar"))).send().await {
            assert!(all.bytes().await.is_err(), "{behaviour}: the archive came whole");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn output_that_was_changed_on_the_disk_is_never_given_out() {
    let app = TestApp::start().await;
    let path = app.submit("print 1").await;
    app.until(&path, "completed").await;
    let blobs: Vec<_> = std::fs::read_dir(app.data().join("blobs"))
        .unwrap()
        .flatten()
        .flat_map(|folder| {
            let name = folder.file_name().into_string().unwrap();
            std::fs::read_dir(folder.path())
                .unwrap()
                .flatten()
                .map(move |file| format!("{name}{}", file.file_name().to_str().unwrap()))
        })
        .collect();
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    change(&app, &blobs[0]);
    app.get(&path).await.assert_problem(503, "storage_failed");
    app.finish().await;
}

/// A part of a file, as a player or an interrupted download asks for it.
#[tokio::test]
async fn one_part_of_a_file_comes_by_range() {
    let app = TestApp::start().await;
    let path = app.submit("large_artifact").await;
    let result = app.until(&path, "completed").await;
    let url = app.url(&format!("{path}/artifacts/large"));
    let whole = app.client.get(&url).send().await.unwrap();
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let tag = whole.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", result["artifacts"][0]["sha256"].as_str().unwrap()));
    let content = whole.bytes().await.unwrap();
    let (size, last) = (content.len(), content.len() - 1);
    let ask = |range: String| app.client.get(&url).header("range", range).send();
    for (range, from, to) in [
        ("bytes=0-0".to_owned(), 0, 0),
        ("bytes=10-99".to_owned(), 10, 99),
        ("bytes=5-".to_owned(), 5, last),
        ("bytes=-7".to_owned(), size - 7, last),
        (format!("bytes=3-{}", size + 9), 3, last),
    ] {
        let part = ask(range.clone()).await.unwrap();
        assert_eq!(part.status(), 206, "{range}");
        assert_eq!(part.headers()["content-range"], format!("bytes {from}-{to}/{size}"));
        assert_eq!(part.headers()["content-length"], (to - from + 1).to_string());
        assert!(part.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
        assert_eq!(part.bytes().await.unwrap(), content[from..=to], "{range}");
    }
    for range in ["bytes=0-1,5-6", "lines=0-1", "bytes=x", ""] {
        assert_eq!(ask(range.to_owned()).await.unwrap().status(), 200, "{range}");
    }
    for range in [format!("bytes={size}-"), "bytes=-0".to_owned()] {
        let refused = Answer::read(ask(range).await.unwrap()).await;
        refused.assert_problem(416, "range_not_satisfiable");
        assert_eq!(refused.headers["content-range"], format!("bytes */{size}"));
    }
    for (of, status) in [(tag.as_str(), 206), ("\"other\"", 200)] {
        let request = app.client.get(&url).header("range", "bytes=0-0").header("if-range", of);
        assert_eq!(request.send().await.unwrap().status(), status, "{of}");
    }
    // Of a file that was changed no part is given out, the untouched ones neither.
    change(&app, result["artifacts"][0]["sha256"].as_str().unwrap());
    Answer::read(ask("bytes=0-0".to_owned()).await.unwrap()).await.assert_problem(500, "internal");
    app.finish().await;
}
