//! Plots that nobody saved: `capture_plots`.

use serde_json::{Value, json};

use crate::projects::tar_of;
use crate::server::Server;

fn paths(result: &Value) -> Vec<&str> {
    let artifacts = result["artifacts"].as_array().map(Vec::as_slice).unwrap_or_default();
    artifacts.iter().map(|artifact| artifact["path"].as_str().unwrap()).collect()
}

/// Width and height of a PNG file.
async fn size(server: &Server, result: &Value, path: &str) -> (u32, u32) {
    let id = result["execution_id"].as_str().unwrap();
    let url = format!("{}/api/v1/executions/{id}/artifacts/{path}", server.url);
    let bytes = server.client.get(url).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n", "{path}");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

/// What is drawn in each language: two plots, one closed by its own `dev.off` in R, then an error.
const PROGRAMS: [(&str, &str, &str, (u32, u32)); 2] = [
    (
        "python-data",
        "main.py",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.figure()\nplt.plot([2, 1])\nplt.show()\n",
        (640, 480),
    ),
    ("r", "main.R", "plot(1:3)\nhist(c(1, 2, 2))\ninvisible(dev.off())\nplot(3:1)\n", (800, 600)),
];

#[tokio::test]
async fn plots_that_are_open_come_back_and_overwrite_nothing() {
    let server = Server::start().await;
    for (language, file, code, expected) in PROGRAMS {
        let tar = tar_of(&[(file, code.as_bytes()), ("plot_1.png", b"the user's own")]);
        let asked = json!({"language": language, "capture_plots": true, "entrypoint": file});
        let result = server.sync(&tar, &asked).await;
        assert_eq!((&result["exit_code"], &result["stderr"]), (&json!(0), &Value::Null), "{result:#}");
        let names = ["plot_2.png", "plot_3.png", "plot_4.png"];
        let names = &names[..if language == "r" { 3 } else { 2 }];
        assert_eq!(paths(&result), names, "nor is there an Rplots.pdf: {result:#}");
        assert_eq!(result["artifacts"][0]["mime"], "image/png");
        for name in names {
            assert_eq!(size(&server, &result, name).await, expected, "{language} {name}");
        }
        let asked =
            json!({"language": language, "capture_plots": true, "entrypoint": file, "artifacts": ["*.csv"]});
        assert_eq!(
            paths(&server.sync(&tar, &asked).await),
            ["plot_1.png"].iter().chain(names).copied().collect::<Vec<_>>()
        );
    }
    server.finish().await;
}

#[tokio::test]
async fn plots_come_back_after_an_error_too_and_only_when_asked_for() {
    let server = Server::start().await;
    for (language, file, code, _) in PROGRAMS {
        let fails = if language == "r" { "stop('boom')" } else { "raise ValueError('boom')" };
        let tar = tar_of(&[(file, format!("{code}{fails}\n").as_bytes())]);
        let result = server.sync(&tar, &json!({"language": language, "capture_plots": true})).await;
        assert_eq!(
            (&result["exit_code"], &result["error_message"]),
            (&json!(1), &json!("boom")),
            "{result:#}"
        );
        assert_eq!(paths(&result).len(), if language == "r" { 3 } else { 2 }, "{result:#}");
        let tar = tar_of(&[(file, code.as_bytes())]);
        let result = server.sync(&tar, &json!({"language": language})).await;
        assert!(!paths(&result).iter().any(|path| path.ends_with(".png")), "{result:#}");
    }
    let none = json!({"language": "python", "code": "print(1)", "capture_plots": true});
    let result = server.eval(&none).await;
    assert_eq!((&result["stdout"], &result["artifacts"]), (&json!("1\n"), &Value::Null), "{result:#}");
    server.finish().await;
}
