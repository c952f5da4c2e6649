//! What one execution may use, and the check of what a caller asks for against the server's ceilings.

use serde::Serialize;

/// Bytes in a mebibyte, the unit of the `*_mb` request fields.
pub const MIB: u64 = 1 << 20;
/// Bytes in a kibibyte, the unit of the `*_kb` request fields.
pub const KIB: u64 = 1 << 10;

/// The limits of one execution. If it exists, it is within the server's ceilings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Wall time of the run phase, in milliseconds.
    pub timeout_ms: u64,
    /// Wall time of the compile phase, in milliseconds.
    pub compile_timeout_ms: u64,
    /// Memory of the program with everything it starts, in bytes. Files in the workspace have their own budget.
    pub memory_bytes: u64,
    /// Size of the workspace, and of the largest file in it, in bytes.
    pub disk_bytes: u64,
    /// Files and folders in the workspace.
    pub disk_inodes: u64,
    /// Processors, in thousandths of one.
    pub cpu_millis: u64,
    /// Processes and threads together.
    pub pids: u64,
    /// What is kept of stdout, and again of stderr, in bytes.
    pub output_bytes: u64,
    /// Sum of the artifacts' sizes, in bytes.
    pub artifact_bytes: u64,
    /// Number of artifacts.
    pub artifact_count: u64,
}

/// What a caller asked for, in the wire's own units. `None` takes the server's default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RequestedLimits {
    /// `timeout_seconds`
    pub timeout_seconds: Option<f64>,
    /// `compile_timeout_seconds`
    pub compile_timeout_seconds: Option<f64>,
    /// `memory_mb`
    pub memory_mb: Option<f64>,
    /// `disk_mb`
    pub disk_mb: Option<f64>,
    /// `cpus`
    pub cpus: Option<f64>,
    /// `pids`
    pub pids: Option<f64>,
    /// `output_kb`
    pub output_kb: Option<f64>,
}

/// The server's defaults and ceilings, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LimitPolicy {
    /// Taken where the caller asks for nothing.
    pub default: Limits,
    /// More than this is refused.
    pub ceiling: Limits,
}

/// Why a requested limit was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LimitError {
    /// Over the server's ceiling.
    #[error("config.{field} is {asked}, over this server's ceiling of {ceiling}")]
    TooHigh {
        /// The wire's name of the field.
        field: &'static str,
        /// What was asked for, in the field's unit.
        asked: f64,
        /// The ceiling, in the field's unit.
        ceiling: f64,
    },
    /// Zero, negative, not finite, or too small to run anything.
    #[error("config.{field} is {asked}; it must be at least {least}")]
    TooLow {
        /// The wire's name of the field.
        field: &'static str,
        /// What was asked for, in the field's unit.
        asked: f64,
        /// The least that is accepted, in the field's unit.
        least: f64,
    },
}

/// One row of the table that turns a wire field into a limit.
struct Field {
    name: &'static str,
    /// How many of the limit's own unit one of the wire's unit is.
    unit: u64,
    /// The least value, in the limit's own unit.
    least: u64,
}

const TIMEOUT: Field = Field { name: "timeout_seconds", unit: 1000, least: 1 };
const COMPILE_TIMEOUT: Field = Field { name: "compile_timeout_seconds", unit: 1000, least: 1 };
// The Engine refuses containers under 6 MiB; the runner itself takes 4.
const MEMORY: Field = Field { name: "memory_mb", unit: MIB, least: 8 * MIB };
const DISK: Field = Field { name: "disk_mb", unit: MIB, least: MIB };
const CPUS: Field = Field { name: "cpus", unit: 1000, least: 10 };
// The runner, the program, and one more.
const PIDS: Field = Field { name: "pids", unit: 1, least: 3 };
const OUTPUT: Field = Field { name: "output_kb", unit: KIB, least: 1 };

impl LimitPolicy {
    /// Checks a request against the ceilings and fills in the defaults.
    ///
    /// # Errors
    /// The first field that is out of range, with the range.
    pub fn resolve(&self, asked: &RequestedLimits) -> Result<Limits, LimitError> {
        let (low, high) = (&self.default, &self.ceiling);
        Ok(Limits {
            timeout_ms: TIMEOUT.resolve(asked.timeout_seconds, low.timeout_ms, high.timeout_ms)?,
            compile_timeout_ms: COMPILE_TIMEOUT.resolve(
                asked.compile_timeout_seconds,
                low.compile_timeout_ms,
                high.compile_timeout_ms,
            )?,
            memory_bytes: MEMORY.resolve(asked.memory_mb, low.memory_bytes, high.memory_bytes)?,
            disk_bytes: DISK.resolve(asked.disk_mb, low.disk_bytes, high.disk_bytes)?,
            cpu_millis: CPUS.resolve(asked.cpus, low.cpu_millis, high.cpu_millis)?,
            pids: PIDS.resolve(asked.pids, low.pids, high.pids)?,
            output_bytes: OUTPUT.resolve(asked.output_kb, low.output_bytes, high.output_bytes)?,
            ..self.default
        })
    }
}

impl Field {
    fn resolve(&self, asked: Option<f64>, default: u64, ceiling: u64) -> Result<u64, LimitError> {
        let Some(asked) = asked else { return Ok(default.min(ceiling)) };
        let scaled = asked * as_f64(self.unit);
        if scaled.is_nan() || scaled < as_f64(self.least) {
            let least = as_f64(self.least) / as_f64(self.unit);
            return Err(LimitError::TooLow { field: self.name, asked, least });
        }
        if scaled > as_f64(ceiling) {
            let ceiling = as_f64(ceiling) / as_f64(self.unit);
            return Err(LimitError::TooHigh { field: self.name, asked, ceiling });
        }
        Ok(as_u64(scaled))
    }
}

/// Exact for every number below 2^53; limits are far below.
#[allow(clippy::cast_precision_loss)]
fn as_f64(value: u64) -> f64 {
    value as f64
}

/// Only called after the range check, so nothing is cut off but a fraction.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn as_u64(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> LimitPolicy {
        crate::config::Config::default().limit_policy()
    }

    #[test]
    fn nothing_asked_gives_the_defaults() {
        let policy = policy();
        assert_eq!(policy.resolve(&RequestedLimits::default()), Ok(policy.default));
    }

    #[test]
    fn a_fraction_of_a_second_is_kept() {
        let asked = RequestedLimits { timeout_seconds: Some(0.25), ..Default::default() };
        assert_eq!(policy().resolve(&asked).unwrap().timeout_ms, 250);
    }

    #[test]
    fn out_of_range_is_refused_with_the_field_and_the_range() {
        for bad in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            let asked = RequestedLimits { memory_mb: Some(bad), ..Default::default() };
            let error = policy().resolve(&asked).unwrap_err();
            assert!(matches!(error, LimitError::TooLow { field: "memory_mb", .. }), "{bad}: {error}");
        }
        for bad in [1e12, 1e19, f64::INFINITY] {
            let asked = RequestedLimits { timeout_seconds: Some(bad), ..Default::default() };
            let error = policy().resolve(&asked).unwrap_err();
            assert!(matches!(error, LimitError::TooHigh { field: "timeout_seconds", .. }), "{bad}: {error}");
        }
    }
}
