//! While a program sleeps, `inspect` of its container shows every field of the profile.

use serde_json::{Value, json};

use crate::engine;
use crate::server::Server;

const MIB: u64 = 1 << 20;

/// Mirror of the profile's own list.
const MASKED: [&str; 59] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/bus",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/locks",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sys/kernel/random/boot_id",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/block",
    "/sys/bus",
    "/sys/class",
    "/sys/dev",
    "/sys/devices/LNXSYSTM:00",
    "/sys/devices/breakpoint",
    "/sys/devices/faux",
    "/sys/devices/isa",
    "/sys/devices/kprobe",
    "/sys/devices/msr",
    "/sys/devices/pci0000:00",
    "/sys/devices/platform",
    "/sys/devices/pnp0",
    "/sys/devices/power",
    "/sys/devices/soc0",
    "/sys/devices/software",
    "/sys/devices/system/clockevents",
    "/sys/devices/system/clocksource",
    "/sys/devices/system/container",
    "/sys/devices/system/edac",
    "/sys/devices/system/machinecheck",
    "/sys/devices/system/memory",
    "/sys/devices/system/memory_tiering",
    "/sys/devices/system/node",
    "/sys/devices/system/xen_memory",
    "/sys/devices/tracepoint",
    "/sys/devices/uprobe",
    "/sys/devices/virtual",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/btrfs",
    "/sys/fs/erofs",
    "/sys/fs/ext4",
    "/sys/fs/f2fs",
    "/sys/fs/fuse",
    "/sys/fs/pstore",
    "/sys/fs/xfs",
    "/sys/hypervisor",
    "/sys/kernel",
    "/sys/module",
    "/sys/power",
];

async fn inspected(flags: &[&str]) -> Value {
    let server = Server::start_with(flags).await;
    let id = server.submit_code("bash", "echo up; sleep 60").await;
    server.wrote(&id, "up").await;
    let inspected = engine::running(&server.label()).await;
    server.kill(&id).await;
    server.finish().await;
    serde_json::to_value(inspected).unwrap()
}

fn assert_fields(object: &Value, expected: &Value) {
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&object[field], value, "{field}");
    }
}

/// Absent, null, empty or false: the Engine's versions differ in how they say nothing.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    }
}

#[tokio::test]
async fn a_container_has_the_whole_profile() {
    assert_profile(&inspected(&["--reuse", "never"]).await);
}

/// What a room has instead, the container lacks; all else is the same.
#[tokio::test]
async fn a_container_of_rooms_has_the_rest_of_the_profile() {
    let mut found = inspected(&["--reuse", "tenant"]).await;
    let user = found["Config"]["User"].as_str().unwrap().split_once(':').unwrap().0.to_owned();
    let rooms: Value = serde_json::from_str(found["Config"]["Cmd"][1].as_str().unwrap()).unwrap();
    let host = &mut found["HostConfig"];
    let nothing = "ro,noexec,nosuid,nodev,size=4096,nr_inodes=1";
    assert_eq!(host["Tmpfs"], json!({"/work": nothing, "/tmp": nothing}));
    host["Tmpfs"] = json!({"/work": work_options(&user), "/tmp": tmp_options()});
    let covered = |own: &Value, rest: &Value| {
        json!([own.as_array().unwrap().as_slice(), rest.as_array().unwrap().as_slice()].concat())
    };
    for (field, own) in [("MaskedPaths", "masked"), ("ReadonlyPaths", "readonly")] {
        host[field] = covered(&rooms[own], &host[field]);
    }
    // One runner in the room, and the one that makes rooms.
    assert_eq!(std::mem::replace(&mut host["PidsLimit"], json!(129)), 130, "PidsLimit");
    found["Config"]["Cmd"] = json!(["__runner"]);
    assert_profile(&found);
}

/// Only the workspace differs, and the memory that it would have taken.
#[tokio::test]
async fn a_container_whose_workspace_is_on_disk_has_the_rest_of_the_profile() {
    let mut found = inspected(&["--memory-disk-mb", "255"]).await;
    let mounts = found["Mounts"].as_array_mut().unwrap();
    let work = mounts.iter().position(|mount| mount["Destination"] == "/work").expect("/work is no mount");
    assert_fields(&mounts.remove(work), &json!({"Type": "volume", "Driver": "local", "RW": true}));
    let host = &mut found["HostConfig"];
    let memory = (512 + 255 + 16 + 64 + 16) * MIB;
    assert_fields(host, &json!({"Memory": memory, "MemorySwap": memory}));
    assert_eq!(host["Tmpfs"].as_object().unwrap().keys().collect::<Vec<_>>(), ["/tmp"]);
    // With those put as they are without a volume, all is as without.
    let memory = json!(memory + MIB);
    (host["Memory"], host["MemorySwap"]) = (memory.clone(), memory);
    let user = found["Config"]["User"].as_str().unwrap().split_once(':').unwrap().0.to_owned();
    let tmp = tmp_options().replace(&(256 * MIB).to_string(), &(255 * MIB).to_string());
    assert_eq!(found["HostConfig"]["Tmpfs"]["/tmp"], json!(tmp));
    found["HostConfig"]["Tmpfs"] = json!({"/work": work_options(&user), "/tmp": tmp_options()});
    assert_profile(&found);
}

fn work_options(uid: &str) -> String {
    format!("rw,exec,nosuid,nodev,size={},nr_inodes=65536,uid={uid},gid={uid},mode=0700", 256 * MIB)
}

fn tmp_options() -> String {
    format!("rw,noexec,nosuid,nodev,size={},nr_inodes=65536,mode=1777", 256 * MIB)
}

/// Holds what `inspect` says of a container with the default limits against the profile, field by field.
pub fn assert_profile(inspected: &Value) {
    let (config, host) = (&inspected["Config"], &inspected["HostConfig"]);
    let memory = (512 + 256 + 16 + 64 + 16) * MIB;
    assert_fields(
        config,
        &json!({
            "Entrypoint": ["/.execbox-runner/execbox"], "Cmd": ["__runner"], "WorkingDir": "/work", "Tty": false,
            "OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
            "Hostname": "execbox", "NetworkDisabled": true, "StopSignal": "SIGKILL", "StopTimeout": 1,
            "Healthcheck": {"Test": ["NONE"]},
        }),
    );
    assert_fields(
        host,
        &json!({
            "NetworkMode": "none", "ReadonlyRootfs": true, "ShmSize": 64 * MIB, "IpcMode": "private",
            "Memory": memory, "MemorySwap": memory, "OomScoreAdj": 500, "NanoCpus": 1_000_000_000, "CpuShares": 256,
            "PidsLimit": 129, "CapDrop": ["ALL"], "Privileged": false, "CgroupnsMode": "private",
            "AutoRemove": false, "LogConfig": {"Type": "none", "Config": {}},
        }),
    );
    for field in [
        "Binds",
        "VolumesFrom",
        "Devices",
        "DeviceRequests",
        "DeviceCgroupRules",
        "GroupAdd",
        "ExtraHosts",
        "Dns",
        "PortBindings",
        "Sysctls",
        "StorageOpt",
        "CapAdd",
        "UsernsMode",
        "PidMode",
        "UTSMode",
        "OomKillDisable",
        "PublishAllPorts",
        "Init",
    ] {
        assert!(is_nothing(&host[field]), "{field} is {}", host[field]);
    }
    assert!(is_nothing(&config["Volumes"]), "Volumes");
    assert_eq!(host["RestartPolicy"]["Name"], "no", "RestartPolicy");
    assert_identity(config);
    assert_file_systems(inspected);
    assert_filters(host);
    assert_ulimits(host);
}

/// Who it is, and that nothing secret goes in.
fn assert_identity(config: &Value) {
    assert!(config["Image"].as_str().unwrap().starts_with("sha256:"), "the image's id, not a tag");
    let (uid, gid) = config["User"].as_str().unwrap().split_once(':').expect("User is no uid:gid");
    assert!(uid == gid && (20_000..21_000).contains(&uid.parse::<u32>().unwrap()), "{uid}:{gid}");
    assert_eq!(config["Env"], json!(["PATH=/usr/local/bin:/usr/bin:/bin"]), "nothing secret");
    let labels = config["Labels"].as_object().unwrap();
    for label in ["execbox.app", "execbox.instance", "execbox.owner"] {
        assert!(labels.contains_key(label), "{label}");
    }
}

/// What can be written, and what is mounted.
fn assert_file_systems(inspected: &Value) {
    let host = &inspected["HostConfig"];
    let (uid, _) = inspected["Config"]["User"].as_str().unwrap().split_once(':').expect("User is no uid:gid");
    let work = work_options(uid);
    assert_eq!(host["Tmpfs"], json!({"/work": work, "/tmp": tmp_options()}), "Tmpfs");
    let mounts = inspected["Mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    assert_fields(&mounts[0], &json!({"Type": "volume", "Destination": "/.execbox-runner", "RW": false}));
}

/// System calls and paths that are shut off.
fn assert_filters(host: &Value) {
    let options: Vec<&str> =
        host["SecurityOpt"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
    assert!(options.contains(&"no-new-privileges"), "no-new-privileges");
    assert!(options.iter().any(|option| option.starts_with("seccomp={")), "our own filter");
    assert!(!options.iter().any(|option| option.contains("unconfined") || option.contains("disable")));

    let paths =
        |field: &str| host[field].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned());
    let masked: Vec<String> = paths("MaskedPaths").collect();
    assert_eq!(masked, MASKED, "MaskedPaths");
    let readonly: Vec<String> = paths("ReadonlyPaths").collect();
    assert_eq!(readonly, ["/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"], "ReadonlyPaths");
}

fn assert_ulimits(host: &Value) {
    let limits = host["Ulimits"].as_array().unwrap();
    let limit =
        |name: &str| limits.iter().find(|limit| limit["Name"] == name).map(|limit| limit["Hard"].clone());
    assert_eq!(limit("nofile"), Some(json!(1024)), "ulimit nofile");
    assert_eq!(limit("core"), Some(json!(1)), "ulimit core");
    assert_eq!(limit("memlock"), Some(json!(65_536)), "ulimit memlock");
    assert_eq!(limit("stack"), Some(json!(64 * MIB)), "ulimit stack");
    assert_eq!(limit("nproc"), None, "it would count all containers of the user id together");
}
