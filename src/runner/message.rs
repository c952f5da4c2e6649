//! The messages inside frames. Both sides come from one binary, so there is no version to negotiate.

use serde::{Deserialize, Serialize};

/// Bytes of the result channel that are passed on, from all of an execution.
pub const RESULT_BYTES: u64 = 1 << 20;

/// What the runner is to do. The first frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Comes back in [`End`], so that nothing else is taken for a result.
    pub nonce: String,
    /// Compile first, where the language does.
    pub compile: Option<PhaseSpec>,
    /// The program.
    pub run: PhaseSpec,
    /// The whole environment of both phases.
    pub env: Vec<(String, String)>,
    /// Standard input comes; else the program finds its end at once, and nothing is granted.
    pub stdin: bool,
    /// Bytes of stdout, and of stderr, that are passed on for each phase; the rest is read and dropped.
    pub output_bytes: u64,
    /// Bytes of stdout and stderr together at which a phase is stopped as a flood.
    pub flood_bytes: u64,
    /// Hard limits of each process of the program.
    pub rlimits: Rlimits,
    /// Size of the workspace, and limit of the workspace and /tmp together.
    pub disk: DiskSpec,
    /// Memory of the program's own, in bytes. Files in the workspace, /tmp and /dev/shm are none of it.
    pub memory_bytes: u64,
    /// Processor time for each second, in milliseconds: 1000 is one processor.
    pub cpu_millis: u64,
    /// Which files come back.
    pub artifacts: ArtifactSpec,
    /// The workspace is on a disk that is not its own, so the runner holds its limits.
    pub watch: Option<WatchSpec>,
    /// Programs of other users read what is left in the workspace.
    pub shared: bool,
}

/// Limits of a workspace that the kernel does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchSpec {
    /// What its files may take.
    pub bytes: u64,
    /// Files and folders.
    pub entries: u64,
    /// With less than this free on the disk no program goes on; that is nobody's doing, and tried again.
    pub reserve: u64,
}

/// Limits of one process that differ from one execution to the next; the others are the container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimits {
    /// Processor time, in seconds: a backstop behind the wall clock.
    pub cpu_seconds: u64,
    /// Size of a file, in bytes.
    pub file_bytes: u64,
}

/// Size of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DiskSpec {
    /// In bytes.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
}

/// What a container that serves several executions has for each: its argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomSpec {
    /// Empty file systems. The workspace and /tmp get the size that the execution asks for.
    pub folders: Vec<RoomFolder>,
    /// Paths that show nothing.
    pub masked: Vec<String>,
    /// Paths that can't be written to.
    pub readonly: Vec<String>,
}

/// An empty file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomFolder {
    /// Where it is mounted.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
    /// Whether programs in it can be started.
    pub exec: bool,
    /// Its permissions.
    pub mode: u32,
}

/// One program to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseSpec {
    /// Program and arguments; never through a shell.
    pub argv: Vec<String>,
    /// Wall time from the program's start.
    pub timeout_ms: u64,
}

/// Which files come back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactSpec {
    /// Globs relative to the workspace; `None` takes everything created or changed by the run phase.
    pub globs: Option<Vec<String>>,
    /// Cap on the sum of sizes.
    pub max_bytes: u64,
    /// Cap on the number.
    pub max_count: u64,
    /// Cap on the files and folders that are looked at.
    pub max_entries: u64,
}

/// A file or folder that goes in, or an artifact that comes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHead {
    /// Relative to the workspace, `/` between components.
    pub path: String,
    /// Bytes that follow in `Data` frames.
    pub size: u64,
    /// Mode 0755 instead of 0644.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// A symbolic link that goes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkHead {
    /// Relative to the workspace, `/` between components.
    pub path: String,
    /// As it is written into the link: relative to the link's folder.
    pub target: String,
}

impl LinkHead {
    /// Whether the target, read without a look at what is there, names a place of the workspace that is not the runner's.
    #[must_use]
    pub fn leads_inside(&self) -> bool {
        let mut folders: Vec<&str> = self.path.split('/').collect();
        folders.pop();
        if self.target.is_empty() || self.target.starts_with('/') {
            return false;
        }
        self.target.split('/').all(|component| {
            match component {
                "" | "." => {}
                ".." => return folders.pop().is_some(),
                name => folders.push(name),
            }
            folders.first() != Some(&".execbox")
        })
    }
}

/// A folder whose content becomes the content of the workspace. All else that came, but for the runner's own, goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lower {
    /// Its name: one component.
    pub folder: String,
}

/// Byte order mark of UTF-8: the server looks for it, and the runner takes it away.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file that begins with UTF-8's byte order mark, which goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmark {
    /// Relative to the workspace as it is after [`Lower`].
    pub path: String,
}

/// A part of the work, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The language's compiler.
    Compile,
    /// The program.
    Run,
    /// Artifacts are collected; no program runs.
    Collect,
}

/// A phase starts; output frames that follow belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseStart {
    /// Which one.
    pub phase: Phase,
    /// Processor time that the container had used before it, in microseconds, where the kernel tells. A server that has to
    /// end the phase itself knows only what the container has used in all.
    pub cpu_before_us: Option<u64>,
}

/// How the runner's work ended. The last frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The one from [`Start`].
    pub nonce: String,
    /// The files did not fit the workspace, so nothing was started: a sentence for the caller.
    pub no_room: Option<String>,
    /// The compile phase, when there was one.
    pub compile: Option<PhaseEnd>,
    /// The run phase, when it was reached.
    pub run: Option<PhaseEnd>,
    /// Highest memory of the program's own, or of the compiler's, in bytes, where the kernel tells.
    pub memory_peak_bytes: Option<u64>,
    /// The kernel's peak of this container would hide that another program passes the same limit.
    pub memory_peak_hides: bool,
    /// Artifacts were left out because of a cap.
    pub artifacts_truncated: bool,
}

/// How one phase ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseEnd {
    /// The wait status.
    pub exit: Exit,
    /// Why the runner ended it, if it did.
    pub stopped: Option<Stop>,
    /// Processes of this phase that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// The folder that had no room left, or has most in it where the disk limit was passed. The workspace where a file was
    /// to grow past the limit of one file.
    pub disk_full: Option<String>,
    /// What is in the workspace, in bytes, where the runner holds its limits.
    pub disk_bytes: u64,
    /// From start to exit, in microseconds.
    pub wall_us: u64,
    /// Processor time of the program and all its children, in microseconds.
    pub cpu_us: u64,
    /// Standard output was cut at the cap.
    pub stdout_truncated: bool,
    /// Standard error was cut at the cap.
    pub stderr_truncated: bool,
    /// The result channel was.
    pub results_truncated: bool,
}

/// The wait status of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It could not be started.
    NotStarted {
        /// The reason, for the caller.
        why: String,
        /// Whether the program's file is there.
        found: bool,
    },
}

/// Why the runner ended a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Its time was over.
    TimedOut,
    /// It wrote more than [`Start::flood_bytes`].
    OutputLimit,
    /// The workspace grew past [`WatchSpec`], or the workspace and /tmp together past [`Start::disk`].
    DiskLimit,
    /// Its memory grew past [`Start::memory_bytes`].
    OutOfMemory,
    /// The server said so.
    Killed,
}

#[cfg(test)]
mod tests {
    use super::LinkHead;

    #[test]
    fn a_link_leads_inside_or_out() {
        for (path, target, inside) in [
            ("a", "b", true),
            ("a", "./b//c/", true),
            ("node_modules/.bin/moo", "../moo/cli.js", true),
            ("d/a", "..", true),
            ("a", ".", true),
            ("a", "a", true),
            ("a", "", false),
            ("a", "/etc/passwd", false),
            ("a", "..", false),
            ("d/a", "../..", false),
            ("d/a", "../../work/d/b", false),
            ("a", ".execbox", false),
            ("a", "b/../.execbox/main", false),
            ("a", ".execbox/../b", false),
            ("d/a", "../.execbox", false),
            ("d/a", ".execbox", true),
        ] {
            let link = LinkHead { path: path.into(), target: target.into() };
            assert_eq!(link.leads_inside(), inside, "{path} -> {target}");
        }
    }
}
