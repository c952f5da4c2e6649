//! Output is exact: nothing lost, nothing of another's, many at a time.

use futures::StreamExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::figures::count;
use crate::projects::tar_of;
use crate::server::Server;
use crate::sweep::Sweep;

/// Users that only this test's containers run as.
const UIDS: std::ops::Range<u32> = 20_600..20_700;

/// Figure P3, and a little of case H20: nothing is left of them.
#[tokio::test]
async fn two_hundred_hellos_eight_at_a_time_are_exact() {
    let hellos = count(200, 5000);
    let mut server = Server::start_with(&["--workers", "8", "--uid-base", &UIDS.start.to_string()]).await;
    // So many at a time that the server's connections to the Engine are there before the first look.
    say_hello(&server, 32).await;
    let sweep = Sweep::before(&server, UIDS).await;
    say_hello(&server, hellos).await;
    // The connections of the eight callers go with their client.
    server.client = reqwest::Client::new();
    sweep.after(&server).await;
    println!("P3  {hellos} hellos, each exact");
    server.finish().await;
}

/// Eight at a time.
async fn say_hello(server: &Server, hellos: usize) {
    let all = futures::stream::iter(0..hellos).map(|number| async move {
        let code = format!("print('hello {number}')");
        let result = server.eval(&json!({"code": code})).await;
        assert_eq!(result["stdout"], format!("hello {number}\n"), "{result:#}");
        assert_eq!((&result["reason"], &result["attempt"]), (&json!("exited"), &json!(1)), "{result:#}");
        server.purge(result["execution_id"].as_str().unwrap()).await;
    });
    all.buffer_unordered(8).collect::<Vec<()>>().await;
}

/// Both streams and an artifact, a mebibyte each, told by their hashes. Figure P3.
#[tokio::test]
async fn a_mebibyte_of_noise_comes_through_every_way_byte_for_byte() {
    const PROGRAM: &str = "
import hashlib, os, sys
out, err, art = (os.urandom(1 << 20) for _ in range(3))
open('noise.bin', 'wb').write(art)
sys.stdout.buffer.write(out)
sys.stderr.buffer.write(err)
open('hashes.txt', 'w').write(' '.join(hashlib.sha256(x).hexdigest() for x in (out, err, art)))
";
    let server = Server::start().await;
    let archive = tar_of(&[("main.py", PROGRAM.as_bytes())]);
    let rounds = count(10, 200);
    for _ in 0..rounds {
        let result = server.sync(&archive, &json!({})).await;
        let id = result["execution_id"].as_str().unwrap();
        let file = async |name: &str| {
            let url = format!("{}/api/v1/executions/{id}/artifacts/{name}", server.url);
            server.client.get(url).send().await.unwrap().bytes().await.unwrap()
        };
        let hash =
            |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let stream = |name: &str| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(result[name].as_str().unwrap()).unwrap()
        };
        let got = [stream("stdout_base64"), stream("stderr_base64"), file("noise.bin").await.to_vec()];
        let expected = file("hashes.txt").await;
        assert_eq!(got.map(|bytes| hash(&bytes)).join(" ").as_bytes(), expected);
        assert_eq!(
            result["truncated"],
            json!({"stdout": false, "stderr": false, "artifacts": false, "results": false})
        );
        server.purge(id).await;
    }
    println!("P3  {rounds} x 3 x 1 MiB, each exact by its hash");
    server.finish().await;
}

#[tokio::test]
async fn large_input_reaches_the_program_whole() {
    let server = Server::start().await;
    let input = "0123456789abcde\n".repeat(1 << 18);
    let code = "import sys, hashlib\nprint(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())";
    let result = server.eval(&json!({"code": code, "stdin": input})).await;
    let expected: String = Sha256::digest(&input).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(result["stdout"], format!("{expected}\n"));
    server.finish().await;
}

/// The end of an empty input comes at once, which is while the compiler still runs.
#[tokio::test]
async fn a_compiled_program_sees_the_end_of_an_empty_input() {
    let server = Server::start().await;
    let code = "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", getchar()); }";
    let body = json!({"language": "c", "code": code, "config": {"timeout_seconds": 2}});
    let result = server.eval(&body).await;
    assert_eq!((&result["stdout"], &result["reason"]), (&json!("-1\n"), &json!("exited")), "{result:#}");
    let body = json!({"language": "c", "code": code, "stdin": "A", "config": {"timeout_seconds": 2}});
    assert_eq!(server.eval(&body).await["stdout"], "65\n");
    server.finish().await;
}
