//! What a process occupies.

use std::future::Future;
use std::time::Duration;

use crate::Result;
use crate::table::{MB, float};

/// Between two looks at a process's memory. The kernel's own high-water mark sees what lies between.
const SAMPLE: Duration = Duration::from_millis(20);

/// The most that the process occupies while `work` goes on, in MB.
pub(crate) async fn peak<T>(pid: u32, work: impl Future<Output = Result<T>>) -> Result<(f64, T)> {
    // Sets the kernel's high-water mark back; where that is not allowed, only the samples count.
    let exact = std::fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok();
    let (mut most, mut work) = (0_f64, std::pin::pin!(work));
    let value = loop {
        most = most.max(resident(pid, "VmRSS")?);
        tokio::select! {
            value = &mut work => break value?,
            () = tokio::time::sleep(SAMPLE) => {}
        }
    };
    if exact {
        most = most.max(resident(pid, "VmHWM")?);
    }
    Ok((most, value))
}

/// A field of the process's status, in MB.
pub(crate) fn resident(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("a status without memory")?;
    Ok(float(kib.parse()?) * 1_024.0 / MB)
}
