//! Images of the caller's own: the same profile and the same runner, whatever is in them.

use bollard::query_parameters::{CreateImageOptionsBuilder, TagImageOptionsBuilder};
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::engine;
use crate::server::Server;

/// An image that is here and that no runtime names.
async fn tag(name: &str) -> String {
    let own = engine::image_tags("python").await.into_iter().next().expect("python is built");
    let (repo, tag) = name.split_once(':').unwrap();
    let options = TagImageOptionsBuilder::default().repo(repo).tag(tag).build();
    engine::engine().await.tag_image(&own, Some(options)).await.unwrap();
    own
}

fn body(image: &str, code: &str) -> Value {
    json!({"language": "python", "code": code, "docker_image": image})
}

#[tokio::test]
async fn an_image_that_is_allowed_runs_under_the_same_profile() {
    let server = Server::start_with(&["--allow-image", "execbox-tests/*"]).await;
    let hello = json!({"language": "python", "code": "print(1)"});
    assert_eq!(server.eval(&hello).await["stdout"], "1\n");
    tag("execbox-tests/own:1").await;
    let code = "import os, socket\nprint(os.getuid() >= 20000, os.getcwd(), sorted(os.listdir('/work')))\n\
                print(open('/proc/1/cmdline').read().split('\\0')[0])\n\
                print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('CapEff', 'Seccomp:', 'NoNewPrivs'))])\n\
                for path in ('/x', '/usr/bin/x'):\n    try: open(path, 'w')\n    except OSError as error: print(error.errno)\n\
                try: socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError as error: print(error.errno)";
    for _ in 0..2 {
        let result = server.eval(&body("execbox-tests/own:1", code)).await;
        let expected = "True /work ['.execbox', 'main.py']\n/.execbox-runner/execbox\n\
                        ['0000000000000000', '1', '2']\n30\n30\n101\n";
        assert_eq!(result["stdout"], expected, "{result:#}");
    }
    server.finish().await;
    engine::remove_image("execbox-tests/own:1").await;
}

#[tokio::test]
async fn one_that_can_not_be_had_or_has_a_volume_is_told_in_words() {
    let server = Server::start_with(&["--allow-image", "**"]).await;
    let result = server.eval(&body("localhost:9/execbox-tests/none:1", "1")).await;
    assert_eq!((&result["reason"], &result["attempt"]), (&json!("internal"), &json!(1)), "{result:#}");
    let error = result["error"].as_str().unwrap();
    assert!(error.contains("localhost:9/execbox-tests/none:1") && error.contains("pulled"), "{result:#}");

    let options = CreateImageOptionsBuilder::default().from_src("-").repo("execbox-tests/volumed").tag("1");
    let options = options.changes(vec!["VOLUME /data".to_owned()]).build();
    let empty = tar::Builder::new(Vec::new()).into_inner().unwrap();
    let engine = engine::engine().await;
    let mut steps = engine.create_image(Some(options), Some(bollard::body_full(empty.into())), None);
    while let Some(step) = steps.next().await {
        step.unwrap();
    }
    let result = server.eval(&body("execbox-tests/volumed:1", "1")).await;
    assert!(result["error"].as_str().unwrap().contains("VOLUME"), "{result:#}");
    server.finish().await;
    engine::remove_image("execbox-tests/volumed:1").await;
}
