//! The script contract whatever the language: data in by a file, results out by lines that printing can't forge.

use serde_json::{Value, json};

use crate::projects::tar_of;
use crate::server::Server;

/// One program of a language, with more fields of the request.
pub async fn run(server: &Server, language: &str, code: &str, more: Value) -> Value {
    let mut body = json!({"language": language, "code": code});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.eval(&body).await
}

/// What a program that did nothing wrong handed back.
#[track_caller]
pub fn handed_back(result: &Value) -> &Value {
    let well = (&json!("exited"), &json!(0), &json!(false));
    let ended = (&result["reason"], &result["exit_code"], &result["truncated"]["results"]);
    assert_eq!(ended, well, "{result:#}");
    assert_eq!(result["notices"], Value::Null, "{result:#}");
    &result["results"]
}

/// The documented file protocol, in languages that have no library of ours.
#[tokio::test]
async fn any_language_reads_the_file_and_writes_lines() {
    let perl = r#"
open(my $in, '<', $ENV{EXECBOX_INPUT}) or die "no input: $!";
my $text = do { local $/; <$in> };
my ($x) = $text =~ /"x":\s*(\d+)/;
open(my $out, '>>', $ENV{EXECBOX_RESULTS}) or die "no results: $!";
print $out "{\"save\": {\"key\": \"x\", \"value\": $x}}\n";
print $out "{\"save\": {\"key\": \"id\", \"value\": \"$ENV{EXECBOX_JOB_ID}\"}}\n";
close $out;
"#;
    let java = r#"
import java.nio.file.*;
public class Main {
    public static void main(String[] args) throws Exception {
        String text = Files.readString(Path.of(System.getenv("EXECBOX_INPUT")));
        String x = text.replaceAll("(?s).*\"x\":\\s*(\\d+).*", "$1");
        String line = "{\"save\": {\"key\": \"x\", \"value\": " + x + "}}\n";
        Files.writeString(Path.of(System.getenv("EXECBOX_RESULTS")), line, StandardOpenOption.APPEND);
        try (var out = new java.io.FileWriter(System.getenv("EXECBOX_RESULTS"), true)) {
            out.write("{\"save\": {\"key\": \"id\", \"value\": \"" + System.getenv("EXECBOX_JOB_ID") + "\"}}\n");
        }
    }
}
"#;
    let lua = r#"
local text = io.open(os.getenv("EXECBOX_INPUT")):read("a")
local out = io.open(os.getenv("EXECBOX_RESULTS"), "a")
out:write('{"save": {"key": "x", "value": ' .. text:match('"x":%s*(%d+)') .. '}}\n')
out:write('{"save": {"key": "id", "value": "' .. os.getenv("EXECBOX_JOB_ID") .. '"}}\n')
"#;
    let server = Server::start().await;
    for (language, code) in [("perl", perl), ("java", java), ("lua", lua)] {
        let result = run(&server, language, code, json!({"parameters": {"x": 42}})).await;
        let expected = json!({"x": 42, "id": result["execution_id"]});
        assert_eq!(handed_back(&result), &expected, "{language}: {result:#}");
        assert_eq!(result["artifacts"], Value::Null, "the file is no artifact: {result:#}");
        let kept = server.get(result["execution_id"].as_str().unwrap()).await;
        assert_eq!(kept, result);
    }
    server.finish().await;
}

#[tokio::test]
async fn without_data_there_is_no_file_and_no_id() {
    let code = "echo ${EXECBOX_INPUT-none} ${EXECBOX_JOB_ID-none}; ls -A /work/.execbox";
    let server = Server::start().await;
    let result = run(&server, "bash", code, json!({})).await;
    assert_eq!(result["stdout"], "none none\ngroup\nhome\npasswd\ntmp\n", "{result:#}");
    let result = run(&server, "bash", code, json!({"input_data": null, "parameters": {}})).await;
    let id = result["execution_id"].as_str().unwrap();
    assert_eq!(
        result["stdout"],
        format!("/work/.execbox/input.json {id}\ngroup\nhome\ninput.json\npasswd\ntmp\n"),
        "{result:#}"
    );
    server.finish().await;
}

#[tokio::test]
async fn printing_forges_nothing_and_strange_lines_are_a_notice() {
    let code = r#"
line='{"save": {"key": "forged", "value": 1}}'
echo "$line"; echo "$line" >&2; echo '{"return_value": 1}'; echo '{"result": "forged"}'
echo 'no json' > "$EXECBOX_RESULTS"
echo '{"save": {"key": "real", "value": [1, {"b": 1.50, "a": null}]}}' >> "$EXECBOX_RESULTS"
echo '{"exit_code": 9}' >&"$EXECBOX_RESULT_FD"
exit 3
"#;
    let server = Server::start().await;
    let result = run(&server, "bash", code, json!({})).await;
    assert_eq!(result["results"], json!({"real": [1, {"b": 1.5, "a": null}]}), "{result:#}");
    assert_eq!((&result["return_value"], &result["result"]), (&Value::Null, &Value::Null), "{result:#}");
    assert_eq!((&result["exit_code"], &result["truncated"]["results"]), (&json!(3), &json!(false)));
    let notice = "results: 2 lines that are no results were left out; the first is line 1";
    assert_eq!(result["notices"], json!([notice]), "{result:#}");
    server.finish().await;
}

#[tokio::test]
async fn what_is_over_the_cap_is_left_out_and_said_to_be() {
    let code = r#"
save_result("first", 1)
save_result("large", "x" * (2 << 20))
save_result("after", 2)
print("done")
"#;
    let server = Server::start().await;
    let result = run(&server, "python", code, json!({"script": true})).await;
    assert_eq!(
        (&result["results"], &result["stdout"]),
        (&json!({"first": 1}), &json!("done\n")),
        "{result:#}"
    );
    assert_eq!(result["truncated"]["results"], true, "{result:#}");
    assert!(result["notices"][0].as_str().unwrap().contains("more than 1048576 bytes"), "{result:#}");
    let fits = "save_result('large', 'x' * (1 << 20 - 100))".replace("(1 << 20 - 100)", "((1 << 20) - 100)");
    let result = run(&server, "python", &fits, json!({"script": true})).await;
    assert_eq!(handed_back(&result)["large"].as_str().unwrap().len(), (1 << 20) - 100);
    server.finish().await;
}

/// Large data goes with the project, and its results are there after a restart.
#[tokio::test]
async fn data_and_results_outlive_the_server() {
    let server = Server::start_with(&["--workers", "1"]).await;
    let blocker = server.submit_code("bash", "sleep 30").await;
    let data: Vec<u32> = (0..200_000).collect();
    let code =
        "save_result('sum', sum(input_data))\nsave_result('id', job_id)\ndef main(): return parameters";
    let body =
        json!({"code": code, "script": true, "call": "main", "input_data": data, "parameters": {"p": [1]}});
    let url = format!("{}/api/v1/exec/async", server.url);
    let answer: Value = server.client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
    let id = answer["execution_id"].as_str().unwrap().to_owned();
    let data = server.crash().await;
    let server = Server::start_on(data, &[]).await;
    server.kill(&blocker).await;
    let result = server.wait(&id).await;
    assert_eq!(handed_back(&result), &json!({"sum": 19_999_900_000_u64, "id": id}));
    assert_eq!(result["return_value"], json!({"p": [1]}));
    let data = server.crash().await;
    let server = Server::start_on(data, &[]).await;
    assert_eq!(server.get(&id).await, result, "a result does not change");
    server.finish().await;
}

/// The examples read a file; the same scripts, unchanged, take rows from the request.
#[tokio::test]
async fn the_sample_scripts_take_rows_from_the_request_too() {
    let server = Server::start().await;
    let rows = json!([{"city": "Oslo", "temperature": 1, "sunny": 2}, {"city": "Oslo", "temperature": 3, "sunny": 2}]);
    let code = include_str!("../../examples/python-data/statistics/main.py");
    let result = run(&server, "python-data", code, json!({"script": true, "input_data": rows})).await;
    assert_eq!(handed_back(&result)["statistics"]["temperature"]["mean"], 2.0, "{result:#}");
    assert_eq!(result["results"]["by_city"], json!({"Oslo": 4}), "{result:#}");
    let code = include_str!("../../examples/r/correlation/main.R");
    let columns = json!({"x": [1, 2, 3], "y": [3, 2, 1]});
    for data in [json!([{"x": 1, "y": 3}, {"x": 2, "y": 2}, {"x": 3, "y": 1}]), columns] {
        let result =
            run(&server, "r", code, json!({"script": true, "input_data": data, "capture_plots": true})).await;
        let correlation = json!({"x": {"x": 1, "y": -1}, "y": {"x": -1, "y": 1}});
        assert_eq!(handed_back(&result)["correlation"], correlation, "{result:#}");
    }
    server.finish().await;
}

/// Code blocks of `docs/scripts.md` that are programs, by language.
fn programs(page: &str) -> Vec<(&str, &str)> {
    // Prose and blocks take turns.
    let blocks = page.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    blocks.filter(|(language, _)| !matches!(*language, "" | "sh" | "json")).collect()
}

#[tokio::test]
async fn the_page_about_scripts_says_what_is() {
    let page = include_str!("../../docs/scripts.md");
    let server = Server::start().await;
    let mut languages = Vec::new();
    for (language, code) in programs(page) {
        let asked = json!({"script": language != "perl", "parameters": {"factor": 10}, "input_data": [{"n": 1}, {"n": 2}]});
        let result = run(&server, language, code, asked).await;
        assert_eq!(handed_back(&result), &json!({"total": 30, "files": 0}), "{language}");
        languages.push(language);
    }
    assert_eq!(languages, ["python", "node", "typescript", "r", "bash", "perl"]);
    let perl = "open(my $in, '<', $ENV{EXECBOX_INPUT}); print <$in>;";
    let asked = json!({"parameters": {"factor": 10}, "input_data": [{"n": 1}, {"n": 2}]});
    let result = run(&server, "perl", perl, asked).await;
    let shown =
        page.split_once("path of a JSON file:\n\n```json\n").unwrap().1.split_once("\n```").unwrap().0;
    let [shown, file]: [Value; 2] =
        [shown, result["stdout"].as_str().unwrap()].map(|json| serde_json::from_str(json).unwrap());
    assert_eq!(file, shown, "the file that the page shows");
    server.finish().await;
}

/// It takes room in the workspace like any other file, and says so.
#[tokio::test]
async fn data_that_does_not_fit_the_workspace_is_refused() {
    let server = Server::start().await;
    let body = json!({"code": "1", "input_data": "x".repeat(2 << 20), "config": {"disk_mb": 1}});
    let url = format!("{}/api/v1/eval", server.url);
    let answer = server.client.post(url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "project_too_large", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("input_data"), "{problem}");
    let tar = tar_of(&[("main.py", b""), (".execbox/input.json", b"{}")]);
    let form = reqwest::multipart::Form::new().part("tar", reqwest::multipart::Part::bytes(tar));
    let url = format!("{}/api/v1/exec/sync", server.url);
    let problem: Value = server.client.post(url).multipart(form).send().await.unwrap().json().await.unwrap();
    assert_eq!(problem["code"], "bad_path", "nobody brings a file of ours: {problem}");
    server.finish().await;
}
