//! Is every field of the profile held by a check? Takes away or loosens one at a time, and looks whether the probe or
//! the field list of `inspect` turns red. Run by `make mutants-profile`, which writes docs/profile-mutants.md.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, InspectContainerOptions};
use execbox::runner::probe::Outcome;
use execbox::sandbox::Sandbox as _;
use execbox::sandbox::docker::{DockerSandbox, Reuse, container_profile};
use serde_json::{Value, json};

use crate::engine;
use crate::probe::{limits, sandbox};
use crate::profile::assert_profile;
use crate::projects::repository;
use crate::server::EXECBOX;

const INSTANCE: &str = "profile-mutants";
/// A container whose streams are broken says nothing, and would be waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Without these an Engine does the same by default (the last: from some version after 20.10 on). We say them because its
/// settings can change its defaults; looser values in their place are among the changes.
const ENGINES_DEFAULTS: [&str; 3] =
    ["HostConfig/IpcMode absent", "HostConfig/ShmSize absent", "HostConfig/RestartPolicy/Name absent"];

/// One change of the profile.
struct Mutant {
    what: String,
    body: Value,
}

/// What a check said: nothing when it stayed green.
type Red = Option<String>;

async fn profile() -> Value {
    let image = engine::engine().await.inspect_image("execbox/empty:1").await.unwrap().id.unwrap();
    let body = container_profile(INSTANCE, EXECBOX.as_ref(), &image, 20_000, &limits()).await.unwrap();
    serde_json::to_value(body).unwrap()
}

/// Every field, entry and option, taken away; what is false already, turned on.
fn each_taken_away(whole: &Value) -> Vec<Mutant> {
    let mut pointers = Vec::new();
    leaves(whole, "", &mut pointers);
    let mut mutants = Vec::new();
    for pointer in pointers {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let name = pointer[1..].replace("~1", "/").replace("//", "/");
        let mut body = whole.clone();
        let parent = body.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(items) => {
                let gone = items.remove(key.parse().unwrap());
                let gone = gone["Name"].as_str().or(gone.as_str()).map_or(gone.to_string(), str::to_owned);
                let gone = gone.split('=').next().unwrap_or_default();
                mutants.push(Mutant { what: format!("{name} without `{gone}`"), body });
            }
            Value::Object(fields) => {
                let key = key.replace("~1", "/");
                let change = if fields[&key] == json!(false) {
                    fields.insert(key, json!(true));
                    "true"
                } else {
                    fields.remove(&key);
                    "absent"
                };
                mutants.push(Mutant { what: format!("{name} {change}"), body });
            }
            _ => unreachable!("only these have parts"),
        }
        mutants.extend(each_option_taken_away(whole, &pointer, &name));
    }
    mutants
}

fn each_option_taken_away(whole: &Value, pointer: &str, name: &str) -> Vec<Mutant> {
    let Some(options) = whole.pointer(pointer).unwrap().as_str().filter(|_| pointer.contains("/Tmpfs/"))
    else {
        return Vec::new();
    };
    let options: Vec<_> = options.split(',').collect();
    let without = |gone: &&str| {
        let left: Vec<_> = options.iter().filter(|option| *option != gone).copied().collect();
        let mut body = whole.clone();
        *body.pointer_mut(pointer).unwrap() = json!(left.join(","));
        Mutant { what: format!("{name} without `{gone}`"), body }
    };
    options.iter().map(without).collect()
}

/// JSON pointers of what is no object. Entries of a list count as one, but for mounts, whose fields matter.
fn leaves(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                leaves(value, &format!("{pointer}/{}", key.replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let pointer = format!("{pointer}/{index}");
                if pointer.contains("/Mounts/") { leaves(item, &pointer, found) } else { found.push(pointer) }
            }
        }
        Value::Null => {}
        _ => found.push(pointer.to_owned()),
    }
}

/// What somebody might write in a field's place, or add.
fn loosened(whole: &Value) -> Vec<Mutant> {
    [
        ("User", json!("0:0")),
        ("Env", json!(["PATH=/usr/local/bin:/usr/bin:/bin", "TOKEN=secret"])),
        ("Volumes", json!({"/data": {}})),
        ("HostConfig/NetworkMode", json!("host")),
        ("HostConfig/IpcMode", json!("host")),
        ("HostConfig/IpcMode", json!("shareable")),
        ("HostConfig/ShmSize", json!(1 << 30)),
        ("HostConfig/PidMode", json!("host")),
        ("HostConfig/UTSMode", json!("host")),
        ("HostConfig/CgroupnsMode", json!("host")),
        ("HostConfig/CapAdd", json!(["SYS_ADMIN"])),
        ("HostConfig/CapDrop", json!(["NET_RAW"])),
        ("HostConfig/SecurityOpt", json!(["no-new-privileges", "seccomp=unconfined"])),
        ("HostConfig/MaskedPaths", json!([])),
        ("HostConfig/ReadonlyPaths", json!([])),
        ("HostConfig/MemorySwap", json!(-1)),
        ("HostConfig/PidsLimit", json!(-1)),
        ("HostConfig/OomScoreAdj", json!(-500)),
        ("HostConfig/OomKillDisable", json!(true)),
        ("HostConfig/Binds", json!(["/:/host"])),
        ("HostConfig/Binds", json!(["/run/docker.sock:/run/docker.sock"])),
        ("HostConfig/GroupAdd", json!(["0"])),
        (
            "HostConfig/Devices",
            json!([{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "rwm"}]),
        ),
    ]
    .into_iter()
    .map(|(field, value)| {
        let mut body = whole.clone();
        let what = format!("{field} = `{value}`");
        *field.split('/').fold(&mut body, |place, key| &mut place[key]) = value;
        Mutant { what, body }
    })
    .collect()
}

/// The system call filter, rule by rule.
fn filters(whole: &Value) -> Vec<Mutant> {
    let option = |body: &Value| body["HostConfig"]["SecurityOpt"][1].as_str().unwrap().to_owned();
    let filter: Value = serde_json::from_str(option(whole).strip_prefix("seccomp=").unwrap()).unwrap();
    let mutant = |what: String, filter: &Value| {
        let mut body = whole.clone();
        body["HostConfig"]["SecurityOpt"][1] = json!(format!("seccomp={filter}"));
        Mutant { what: format!("filter: {what}"), body }
    };
    let mut mutants = Vec::new();
    let mut open = filter.clone();
    open["defaultAction"] = json!("SCMP_ACT_ALLOW");
    mutants.push(mutant("allows what it does not name".into(), &open));
    let mut narrow = filter.clone();
    narrow["archMap"][0]["subArchitectures"] = json!(["SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    mutants.push(mutant("32-bit calls".into(), &narrow));
    for (index, rule) in filter["syscalls"].as_array().unwrap().iter().enumerate() {
        let name = rule["names"][0].as_str().unwrap();
        if rule["args"].is_array() {
            let mut any = filter.clone();
            any["syscalls"][index].as_object_mut().unwrap().remove("args");
            mutants.push(mutant(format!("{name} with any argument (rule {index})"), &any));
        }
        if rule["errnoRet"].is_number() {
            let mut absent = filter.clone();
            absent["syscalls"].as_array_mut().unwrap().remove(index);
            mutants.push(mutant(format!("no rule for {name}"), &absent));
        }
    }
    for name in [
        "unshare",
        "setns",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "pidfd_open",
        "pidfd_getfd",
        "kcmp",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "keyctl",
        "add_key",
        "request_key",
        "vmsplice",
        "name_to_handle_at",
        "adjtimex",
        "mbind",
        "move_pages",
        "open_tree",
    ] {
        let mut more = filter.clone();
        more["syscalls"][0]["names"].as_array_mut().unwrap().push(json!(name));
        mutants.push(mutant(format!("allows {name}"), &more));
    }
    mutants
}

async fn probed(sandbox: &DockerSandbox, body: &Value) -> Red {
    let alter = |_| serde_json::from_value::<ContainerCreateBody>(body.clone()).unwrap();
    let probe = tokio::time::timeout(PATIENCE, sandbox.probe_altered(&limits(), Reuse::Never, alter)).await;
    match probe {
        Err(_) => Some("it does not come up".to_owned()),
        Ok(Err(error)) => Some(error.to_string()),
        Ok(Ok(report)) => {
            let mut worked = report.that(Outcome::Worked).map(|row| row.name.clone());
            let first = worked.next()?;
            let more = worked.count();
            Some(if more == 0 { first } else { format!("{first}, and {more} more") })
        }
    }
}

/// `inspect` needs no start.
async fn inspected(body: &Value) -> Red {
    let docker = engine::engine().await;
    let body = serde_json::from_value::<ContainerCreateBody>(body.clone()).unwrap();
    let options = CreateContainerOptionsBuilder::default().name("execbox-profile-mutant").build();
    let created = match docker.create_container(Some(options), body).await {
        Ok(created) => created.id,
        Err(error) => return Some(format!("the Engine refuses it: {error}")),
    };
    let found = docker.inspect_container(&created, None::<InspectContainerOptions>).await.unwrap();
    engine::remove_container(&created).await;
    let found = serde_json::to_value(found).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| assert_profile(&found))).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

/// One line that fits a table: what an assertion names, without the values.
fn cell(red: Option<&String>) -> String {
    let Some(text) = red else { return "-".to_owned() };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/");
    let text = text.trim_start_matches("assertion `left == right` failed: ");
    let text = text.split(" left: ").next().unwrap_or_default();
    if text.chars().count() > 110 {
        text.chars().take(107).collect::<String>() + "..."
    } else {
        text.to_owned()
    }
}

#[tokio::test]
async fn every_field_of_the_profile_is_held_by_a_check() {
    let sandbox = sandbox(INSTANCE).await;
    let whole = profile().await;
    assert_eq!((probed(&sandbox, &whole).await, inspected(&whole).await), (None, None), "the profile itself");
    let mut mutants = each_taken_away(&whole);
    mutants.extend(loosened(&whole));
    mutants.extend(filters(&whole));
    std::panic::set_hook(Box::new(|_| ()));
    let mut table = String::new();
    let (mut alive, mut by_probe, mut by_inspect) = (Vec::new(), 0, 0);
    for mutant in &mutants {
        let (probe, inspect) = (probed(&sandbox, &mutant.body).await, inspected(&mutant.body).await);
        by_probe += usize::from(probe.is_some());
        by_inspect += usize::from(inspect.is_some());
        let default = ENGINES_DEFAULTS.contains(&mutant.what.as_str());
        if probe.is_none() && inspect.is_none() && !default {
            alive.push(&mutant.what);
        }
        writeln!(
            table,
            "| {} | {} | {} |",
            mutant.what.replace('|', "/"),
            cell(probe.as_ref()),
            cell(inspect.as_ref())
        )
        .unwrap();
        eprintln!("{} | {} | {}", mutant.what, cell(probe.as_ref()), cell(inspect.as_ref()));
    }
    drop(std::panic::take_hook());
    sandbox.close().await;
    let text = format!(
        "# Every field of the container profile is held by a check\n\nWritten by `make mutants-profile` \
         (`tests/docker/profile_mutants.rs`). Each row takes away or loosens one thing of the profile, then runs the \
         probe of the server's start in such a container, and holds what `inspect` says of one against the field list \
         of `tests/docker/profile.rs`. A cell says why that check turned red; `-` means that it stayed green, and a row \
         with two of them would be a field that nothing holds.\n\n{} changes: {by_probe} caught by the probe, \
         {by_inspect} by `inspect`, {} by neither. Not counted \
         are {}: the Engine's own default is the same, and looser values in their place are further down.\n\n| Change | The probe says | `inspect` says |\n|---|---|---|\n{table}",
        mutants.len(),
        alive.len(),
        ENGINES_DEFAULTS.map(|field| format!("`{field}`")).join(", "),
    );
    // Only `make mutants-profile` asks for the table: what the Engine says in it differs from one to the next.
    #[allow(clippy::disallowed_methods, reason = "a test has no settings of its own")]
    if std::env::var_os("WRITE_PROFILE_MUTANTS").is_some() {
        std::fs::write(repository("docs/profile-mutants.md"), text).unwrap();
    }
    assert!(alive.is_empty(), "nothing holds {alive:#?}");
}
