//! Images of the caller's own: which ones, and how a language's programs start in them.

use globset::{GlobBuilder, GlobMatcher};

use crate::execution::intake::IntakeError;
use crate::execution::spec::ExecutionSpec;
use crate::runtime::shown;

/// Characters of an image's name.
const MAX_NAME: usize = 255;
/// Rules that a refusal names.
const MAX_SHOWN: usize = 10;

/// A rule of the operator's allow-list: `*` and `?` stand for all but `/`, `**` also for that.
///
/// # Errors
/// It is no glob.
pub fn image_rule(rule: &str) -> Result<GlobMatcher, String> {
    let glob = GlobBuilder::new(rule).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| error.to_string())
}

/// Runs a spec in the image that its request names, where a rule allows that. `helped` is a field of the request by which
/// a language's helper runs the program.
///
/// # Errors
/// No rule does, or the request wants what only our own images have.
pub fn use_image(
    mut spec: ExecutionSpec,
    name: &str,
    helped: Option<&str>,
    rules: &[String],
) -> Result<ExecutionSpec, IntakeError> {
    let refuse =
        |message: String| Err(IntakeError::new("image_not_allowed", format!("docker_image: {message}")));
    if rules.is_empty() {
        return refuse("this server allows no images of your own; leave it out and give `language`".into());
    }
    if !is_name(name) {
        return refuse(format!("`{}` is no name of an image, such as python:3.13-slim", shown(name)));
    }
    let name = with_tag(name);
    if !rules.iter().filter_map(|rule| image_rule(rule).ok()).any(|rule| rule.is_match(&name)) {
        let rules = rules.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        return refuse(format!(
            "`{}` is not on this server's allow-list (--allow-image): {rules}",
            shown(&name)
        ));
    }
    if let Some(field) = helped {
        return refuse(format!("only the server's own images have what `{field}` needs; leave it out"));
    }
    let command = &mut spec.command;
    for program in command.compile.iter_mut().chain([&mut command.run]).filter_map(|argv| argv.first_mut()) {
        if let Some(found) = by_path(program) {
            *program = found;
        }
    }
    spec.image = Some(name);
    Ok(spec)
}

/// What the Engine's names of images are made of. The Engine knows the whole grammar.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric();
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || b"._-/:@".contains(&byte))
        && !name.contains("//")
        && !name.contains("..")
        // An id names what the Engine has, whatever a rule says of names.
        && !name.starts_with("sha256:")
        && !(name.len() >= 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// As the Engine takes a name without a tag.
fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

/// The language's program by its name alone: in another image it may be in another folder of PATH.
fn by_path(program: &str) -> Option<String> {
    let folder_and_name = program.strip_prefix('/')?.rsplit_once('/')?;
    let in_path = ["bin", "usr/bin", "usr/local/bin"].contains(&folder_and_name.0);
    in_path.then(|| folder_and_name.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_images_are_told_apart() {
        for name in ["python", "python:3.13-slim", "a.example:5000/x/y:1", "x@sha256:00", "a_b/c-d"] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(300);
        for name in
            ["", "-x", "/x", "../x", "a//b", "a b", "x;y", "sha256:00", "0123456789ab", "p\u{443}", &long]
        {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_rule_is_held_against_the_whole_name_with_its_tag() {
        for (rule, name, matches) in [
            ("python:3.*", "python:3.13-slim", true),
            ("python:*", "python", true),
            ("python:3.*", "python", false),
            ("python*", "evil/python:3", false),
            ("python:3.*", "a.example/python:3.1", false),
            ("a.example/*", "a.example/team/x:1", false),
            ("a.example/**", "a.example/team/x:1", true),
            ("python:3.13", "python:3.13-slim", false),
        ] {
            assert_eq!(image_rule(rule).unwrap().is_match(with_tag(name)), matches, "{rule} {name}");
        }
    }

    #[test]
    fn programs_of_the_image_are_found_by_path_and_built_ones_where_they_are() {
        assert_eq!(by_path("/usr/bin/python3").as_deref(), Some("python3"));
        for other in ["/work/.execbox/main", "/usr/lib/x/bin", "./main", "/main"] {
            assert_eq!(by_path(other), None, "{other}");
        }
    }
}
