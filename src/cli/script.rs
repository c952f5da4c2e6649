//! Data for a program and what it hands back, on the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::execution::intake::Script;
use crate::execution::json::Json;
use crate::execution::state::Finished;

#[derive(clap::Args)]
#[command(next_help_heading = "Data in, results out")]
pub(super) struct ScriptArgs {
    /// Give the program the names of the script contract: parameters, input_data, save_result, load_file and others.
    #[arg(long)]
    script: bool,

    /// A parameter: VALUE is JSON, or else a text. May be given many times.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = super::run::variable)]
    parameters: Vec<(String, String)>,

    /// A JSON file that becomes the program's `input_data`.
    #[arg(long, value_name = "FILE")]
    input_data: Option<PathBuf>,

    /// Call this function of the program; what it returns is the `return_value`.
    #[arg(long, value_name = "NAME")]
    call: Option<String>,

    /// Keep the plots that are open at the end as files; see --output.
    #[arg(long)]
    capture_plots: bool,

    /// Write what the program hands back into this file, as JSON; `-` is standard output, after the program's own.
    #[arg(long, value_name = "FILE|-")]
    results: Option<PathBuf>,
}

impl ScriptArgs {
    pub(super) fn script(&self) -> Result<Script, Failure> {
        let parameters: BTreeMap<_, _> =
            self.parameters.iter().map(|(name, text)| (name, value(text))).collect();
        let parameters = (!parameters.is_empty()).then(|| Json::parse(&json!(parameters).to_string()));
        let input_data = self.input_data.as_deref().map(read).transpose()?;
        Ok(Script {
            names: self.script,
            call: self.call.clone(),
            capture_plots: self.capture_plots,
            parameters: parameters.transpose().map_err(Failure::usage)?,
            input_data,
        })
    }

    /// What it handed back, to where that was asked for.
    pub(super) fn hand_over(&self, finished: &Finished) -> Result<(), Failure> {
        if finished.truncated.results {
            output::complaint("some results were left out; see the notices");
        }
        let Some(file) = &self.results else { return Ok(()) };
        let handed = json!({"results": finished.results, "return_value": finished.return_value});
        let text = format!("{handed:#}\n");
        if file == Path::new("-") {
            return output::result(text.as_bytes()).map_err(Failure::ours);
        }
        let failed = |error| Failure::ours(format!("{}: {error}", file.display()));
        std::fs::write(file, text).map_err(failed)
    }
}

/// Most values that are typed are no JSON: a name, a date.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn read(file: &Path) -> Result<Json, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    Json::parse(&text).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_json_or_text() {
        let args = ScriptArgs {
            script: true,
            parameters: [("b", "2"), ("a", "x y"), ("c", "[1, {}]"), ("d", "\"2\""), ("a", "again")]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into(),
            input_data: None,
            call: None,
            capture_plots: false,
            results: None,
        };
        let script = args.script().unwrap();
        assert_eq!(script.parameters.unwrap().get(), r#"{"a":"again","b":2,"c":[1,{}],"d":"2"}"#);
        assert!(script.input_data.is_none() && script.names);
    }

    #[test]
    fn a_file_that_is_no_json_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "[1,").unwrap();
        let error = read(file.path()).unwrap_err().message;
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        std::fs::write(&file, " [1] \n").unwrap();
        assert_eq!(read(file.path()).unwrap().get(), "[1]");
    }
}
