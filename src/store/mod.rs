//! What outlives an execution: the data folder with its lock, the database with the keys, artifacts on disk, and the
//! rule by which finished executions are forgotten.

mod data_dir;
mod database;
mod keys;
mod retention;

pub use data_dir::{DataDir, DataDirError};
pub use database::{Database, DatabaseError};
pub use keys::{ApiKey, KeySpec, Keys, PREFIX as KEY_PREFIX, Scope, UnknownScope};
pub use retention::{Retention, RetentionPolicy};
