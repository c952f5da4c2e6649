//! The commands as a person types them.

use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::engine;
use crate::projects::repository;
use crate::server::EXECBOX;

fn execbox(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(EXECBOX)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Label of the volumes with packages of all commands.
const PACKAGES: &str = "execbox.dependencies=commands";

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_program_from_standard_input_runs() {
    let output = execbox(&["run", "-", "--language", "python"], "print(6*7)");
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("42\n", Some(0)));
}

#[test]
fn a_folder_is_compiled_and_its_exit_code_passed_on() {
    let folder = repository("examples/c/matrix");
    let folder = folder.to_str().unwrap();
    let output = execbox(&["run", folder, "--", "no-such-file"], "");
    assert_ne!(output.status.code(), Some(0), "{}", stdout(&output));
    let output = execbox(&["run", folder], "");
    assert!(output.status.success() || output.status.code().is_some());
}

#[test]
fn data_reaches_the_program_and_what_it_hands_back_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let program = write(
        "main.py",
        "import execbox\ndef main():\n    print('said')\n    execbox.save_result('rows', len(execbox.input_data))\n    return execbox.parameters\n",
    );
    let data = write("rows.json", "[1, 2, 3]");
    let args =
        ["run", &program, "--param", "n=3", "--param", "who=x y", "--input-data", &data, "--call", "main"];
    let output = execbox(&[&args[..], &["--results", "-"]].concat(), "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    let handed: serde_json::Value = serde_json::from_str(text.strip_prefix("said\n").unwrap()).unwrap();
    let expected = serde_json::json!({"results": {"rows": 3}, "return_value": {"n": 3, "who": "x y"}});
    assert_eq!(handed, expected);
    let broken = write("broken.json", "[1,");
    let output = execbox(&["run", &program, "--input-data", &broken], "");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("broken.json"), "{output:?}");
}

/// Runs of the same user share what was installed, also those that end while another begins.
#[tokio::test]
async fn packages_are_installed_once_for_all_runs() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let requirements = write("wanted.txt", "iniconfig==2.0.0\n");
    let program = "import importlib.metadata as m; print(m.version('iniconfig'), open('/deps/mark').read())";
    // What no other run has asked for.
    let mark = uuid::Uuid::new_v4();
    let (command, expected) = (format!("printf {mark} > mark"), format!("2.0.0 {mark}\n"));
    let args =
        ["run", "-", "--language", "python", "--requirements", &requirements, "--pre-command", &command];
    let before = engine::volumes(PACKAGES).await;
    let runs: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| execbox(&args, program))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for output in runs {
        assert_eq!((stdout(&output), output.status.code()), (expected.clone(), Some(0)), "{output:?}");
        assert!(stderr(&output).contains("installing packages"), "{output:?}");
    }
    let again = execbox(&args, program);
    assert_eq!((stdout(&again), stderr(&again)), (expected, String::new()), "installed again");
    let made: Vec<_> =
        engine::volumes(PACKAGES).await.into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(made.len(), 2, "one with packages, and what says that it is whole: {made:?}");
    for volume in &made {
        // Half of a pair: another test's server that starts now may be faster.
        drop(engine::try_remove_volume(volume).await);
    }
    let left = engine::volumes(PACKAGES).await;
    assert!(!left.iter().any(|name| made.contains(name)), "{left:?}");

    let unpinned = write("unpinned.txt", "iniconfig\n");
    let output = execbox(&["run", "-", "-l", "python", "--requirements", &unpinned], program);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("line 1") && stderr(&output).contains("=="), "{output:?}");
    let output = execbox(&["run", &requirements, "-l", "python", "--install"], "");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("requirements.txt"), "{output:?}");
}

#[test]
fn input_arguments_and_environment_reach_the_program_and_files_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("main.py");
    let code = "import os, sys\nopen('out.txt', 'w').write(sys.stdin.read() + sys.argv[1] + os.environ['NAME'])\n\
                sys.exit(3)";
    std::fs::write(&program, code).unwrap();
    let back = folder.path().join("back");
    let args = ["run", program.to_str().unwrap(), "-o", back.to_str().unwrap(), "--env", "NAME=c", "--", "b"];
    let output = execbox(&args, "a");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(std::fs::read_to_string(back.join("out.txt")).unwrap(), "abc");
}

/// Files into a folder of the project itself, twice: the first run's are replaced, and never sent along.
#[test]
fn a_folder_with_an_execbox_toml_runs_as_it_says_and_leaves_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("execbox.toml", "entrypoint = \"tool.sh\"\nargs = [\"from-file\"]\nartifacts = [\"**/*.txt\"]\n");
    file("main.py", "print('not this one')");
    file("tool.sh", "echo \"$1\"; mkdir sub; echo \"$1\" > sub/a.txt; ls > b.txt; touch c.log");
    let out = folder.path().join("out");
    for (args, word) in [(&[][..], "from-file"), (&["--", "given"], "given")] {
        let command = ["run", folder.path().to_str().unwrap(), "-o", out.to_str().unwrap()];
        let output = execbox(&[&command, args].concat(), "");
        assert_eq!((stdout(&output), output.status.code()), (format!("{word}\n"), Some(0)), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let line =
            |name: &str, size: usize| format!("execbox: wrote {} ({size} bytes)\n", out.join(name).display());
        let listed = "b.txt\nexecbox.toml\nmain.py\nsub\ntool.sh\n";
        assert_eq!(std::fs::read_to_string(out.join("b.txt")).unwrap(), listed);
        assert_eq!(std::fs::read_to_string(out.join("sub/a.txt")).unwrap(), format!("{word}\n"));
        assert!(
            told.contains(&line("sub/a.txt", word.len() + 1)) && told.contains(&line("b.txt", listed.len())),
            "{told}"
        );
        assert!(!out.join("c.log").exists(), "only what the globs ask for");
    }
}

#[test]
fn advice_comes_after_the_programs_own_words() {
    let output = execbox(&["run", "-", "--language", "python", "--lint"], "\nprint(eval('6 * 7'))");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("42\n", Some(0)), "{told}");
    assert_eq!(told, "execbox: lint: main.py:2: runs text as code\n");
}

#[test]
fn a_project_that_is_undecided_or_broken_is_a_mistake_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["main.py", "main.js"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let run = || {
        let output = execbox(&["run", folder.path().to_str().unwrap()], "");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = run();
    assert!(code == Some(2) && told.contains("node (main.js) or python (main.py)"), "{told}");
    std::fs::write(folder.path().join("execbox.toml"), "entrypont = \"main.py\"").unwrap();
    let (code, told) = run();
    assert!(code == Some(2) && told.contains("execbox.toml: line 1, column 1: unknown field"), "{told}");
}

#[test]
fn a_limit_says_in_a_sentence_what_happened() {
    let output = execbox(&["run", "-", "--language", "bash", "--timeout", "1"], "sleep 60");
    assert_eq!(output.status.code(), Some(124));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("timed out"), "{complaint}");
}

#[tokio::test]
async fn control_c_kills_the_container() {
    let mut child = Command::new(EXECBOX)
        .args(["run", "-", "--language", "bash"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"echo up; sleep 600").unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let pid = child.id();
    let owned = engine::containers("execbox.app").await;
    assert!(!owned.is_empty());
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGINT).unwrap();
    let began = Instant::now();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert_owner_has_nothing(pid).await;
}

/// The owner label holds the process id between slashes.
async fn assert_owner_has_nothing(pid: u32) {
    for id in engine::containers("execbox.app").await {
        let options = None::<bollard::query_parameters::InspectContainerOptions>;
        let Ok(inspected) = engine::engine().await.inspect_container(&id, options).await else { continue };
        let labels = inspected.config.and_then(|config| config.labels).unwrap_or_default();
        assert!(!labels["execbox.owner"].contains(&format!("/{pid}/")), "container {id} is left");
    }
}

#[test]
fn doctor_passes_only_with_a_real_execution() {
    let output = execbox(&["doctor"], "");
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).lines().any(|line| line.starts_with("ok") && line.contains("a program ran")));
    let output = execbox(&["doctor", "--docker-host", "unix:///nowhere/docker.sock"], "");
    assert_ne!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("setup-engine.sh"), "{}", stdout(&output));
}

#[test]
fn runtimes_and_images_are_listed() {
    let output = execbox(&["runtimes"], "");
    for language in ["python", "node", "bash", "c"] {
        assert!(stdout(&output).contains(language), "{}", stdout(&output));
    }
    assert_eq!(execbox(&["images", "build", "bash"], "").status.code(), Some(0));
    let images = execbox(&["images", "list"], "");
    assert!(stdout(&images).contains("execbox/bash:"), "{}", stdout(&images));
}
