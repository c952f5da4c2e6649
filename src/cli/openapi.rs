//! `execbox openapi`: the contract as a file.

use std::process::ExitCode;

use crate::cli::failure::Failure;
use crate::cli::output;

pub(super) fn openapi() -> Result<ExitCode, Failure> {
    output::result(crate::http::openapi_json().as_bytes()).map_err(Failure::ours)?;
    Ok(ExitCode::SUCCESS)
}
