//! What comes back: files that the program made or changed, or those that were asked for, each with size, hash and type,
//! and never shown by a browser.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::projects::tar_of;
use crate::server::Server;

/// Makes, changes, moves and removes; leaves `kept` alone, and hides the change of `data.csv` as well as a program can.
const PROGRAM: &[u8] = b"
touch -r data.csv /tmp/time
printf 'A;2\\n' > data.csv
touch -r /tmp/time data.csv
echo more >> notes.txt
mkdir -p out/deep empty
echo '<b>bold</b>' > out/page.html
printf '\\x89PNG' > out/deep/plot.png
mv old.json new.json
rm gone.txt
cat kept.txt > /dev/null
";

/// Path, content and type.
type File = (&'static str, &'static [u8], &'static str);

const LEFT: [File; 5] = [
    ("data.csv", b"A;2\n", "text/csv"),
    ("new.json", b"{}", "application/json"),
    ("notes.txt", b"some\nmore\n", "text/plain"),
    ("out/deep/plot.png", b"\x89PNG", "image/png"),
    ("out/page.html", b"<b>bold</b>\n", "text/html"),
];

fn project() -> Vec<u8> {
    tar_of(&[
        ("main.sh", PROGRAM),
        ("data.csv", b"A;1\n"),
        ("notes.txt", b"some\n"),
        ("old.json", b"{}"),
        ("gone.txt", b"x"),
        ("kept.txt", b"x"),
        ("kept.csv", b"x"),
    ])
}

fn described(files: &[File]) -> Value {
    let describe = |(path, content, mime): &File| {
        let sha256 = hex::encode(Sha256::digest(content));
        json!({"path": path, "size": content.len(), "sha256": sha256, "mime": mime})
    };
    files.iter().map(describe).collect()
}

#[tokio::test]
async fn what_was_made_or_changed_comes_back_exactly_and_safely() {
    let server = Server::start().await;
    let id = server.submit(&project(), &json!({})).await;
    let result = server.wait(&id).await;
    assert_eq!((&result["exit_code"], &result["artifacts"]), (&json!(0), &described(&LEFT)), "{result:#}");
    for (path, content, _) in LEFT {
        let url = format!("{}/api/v1/executions/{id}/artifacts/{path}", server.url);
        let file = server.client.get(url).send().await.unwrap();
        let header = |name: &str| file.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (header("content-type").as_str(), header("x-content-type-options").as_str()),
            ("application/octet-stream", "nosniff")
        );
        assert!(header("content-disposition").starts_with("attachment; "), "{path}");
        assert!(header("content-security-policy").starts_with("sandbox; "), "{path}");
        assert_eq!(file.bytes().await.unwrap(), content, "{path}");
    }
    server.finish().await;
}

#[tokio::test]
async fn globs_ask_for_files_whether_they_changed_or_not() {
    let server = Server::start().await;
    let kept: File = ("kept.csv", b"x", "text/csv");
    for (globs, files) in [
        (json!(["*.csv"]), vec![LEFT[0], kept]),
        (json!(["out/**"]), vec![LEFT[3], LEFT[4]]),
        (json!(["**/*.{png,json}", "gone.txt"]), vec![LEFT[1], LEFT[3]]),
        // A star stays in its folder.
        (json!(["*.html", "out/*.png"]), vec![]),
        (json!([]), vec![]),
    ] {
        let result = server.sync(&project(), &json!({"artifacts": globs})).await;
        let found = result.get("artifacts").cloned().unwrap_or_else(|| json!([]));
        assert_eq!(found, described(&files), "{globs}: {result:#}");
    }
    server.finish().await;
}
