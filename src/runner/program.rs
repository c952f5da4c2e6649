//! A program as the kernel takes it: made before its process is, which may not allocate.

use std::ffi::CString;
use std::io;

/// What is started.
#[derive(Debug)]
pub(super) struct Program {
    /// Where it may be, best first.
    pub(super) paths: Vec<CString>,
    pub(super) argv: Vec<CString>,
    /// `NAME=value`, and nothing else of ours.
    pub(super) env: Vec<CString>,
}

/// Where a program is looked for when its environment does not say.
const USUAL: &str = "/bin:/usr/bin";

impl Program {
    /// A name without a slash is looked for in the `PATH` of the program's own environment.
    pub(super) fn new(argv: &[String], env: &[(String, String)]) -> io::Result<Self> {
        let name = argv.first().ok_or(io::ErrorKind::InvalidInput)?;
        let env_of = |name: &str| env.iter().rev().find(|(other, _)| other == name);
        let paths: Vec<String> = if name.contains('/') {
            vec![name.clone()]
        } else {
            let folders = env_of("PATH").map_or(USUAL, |(_, folders)| folders.as_str());
            folders
                .split(':')
                .map(|folder| if folder.is_empty() { "." } else { folder })
                .map(|folder| format!("{folder}/{name}"))
                .collect()
        };
        Ok(Self {
            paths: texts(paths)?,
            argv: texts(argv.iter().cloned())?,
            env: texts(env.iter().map(|(name, value)| format!("{name}={value}")))?,
        })
    }
}

fn texts(texts: impl IntoIterator<Item = String>) -> io::Result<Vec<CString>> {
    texts.into_iter().map(|text| CString::new(text).map_err(io::Error::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(argv0: &str, env: &[(&str, &str)]) -> Vec<String> {
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let program = Program::new(&[argv0.to_owned()], &env).unwrap();
        program.paths.into_iter().map(|path| path.into_string().unwrap()).collect()
    }

    #[test]
    fn only_a_bare_name_is_looked_for() {
        let path = [("PATH", "/a:/b")];
        assert_eq!(paths("/bin/x", &path), ["/bin/x"]);
        assert_eq!(paths("./x", &path), ["./x"]);
        assert_eq!(paths("x", &path), ["/a/x", "/b/x"]);
        assert_eq!(paths("x", &[("PATH", "/a::")]), ["/a/x", "./x", "./x"]);
        assert_eq!(paths("x", &[]), ["/bin/x", "/usr/bin/x"]);
    }

    #[test]
    fn what_the_kernel_cannot_take_is_an_error() {
        let word = |text: &str| vec![text.to_owned()];
        assert!(Program::new(&[], &[]).is_err());
        assert!(Program::new(&word("a\0b"), &[]).is_err());
        assert!(Program::new(&word("a"), &[("A".into(), "\0".into())]).is_err());
    }
}
