//! What outlives an execution: the data folder with its lock, artifacts on disk, and the rule by which finished
//! executions are forgotten. Records live in memory until issue 3 gives them a database.

mod data_dir;
mod database;
mod retention;

pub use data_dir::{DataDir, DataDirError};
pub use database::{Database, DatabaseError};
pub use retention::{Retention, RetentionPolicy};
