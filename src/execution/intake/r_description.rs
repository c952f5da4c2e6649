//! `DESCRIPTION`, R's own file of what a project needs, read by ourselves: names of packages, and which versions will do.
//!
//! What the installer gets is written anew, with those and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::runtime::shown;

/// Bytes of the file.
const MAX_BYTES: usize = 256 << 10;
/// Packages in it.
const MAX_PACKAGES: usize = 500;
/// Versions that it bounds them by.
const MAX_BOUNDS: usize = 1_000;
/// Bytes of a name.
const MAX_NAME: usize = 100;
/// Numbers in a version, and digits of each, which R takes as an integer.
const MAX_NUMBERS: usize = 10;
const MAX_DIGITS: usize = 9;
/// Fields with packages that programs need. `LinkingTo` has what only compilers need, `Suggests` what no program must have.
const NEEDS: [&str; 2] = ["Depends", "Imports"];
/// Fields with places that packages come from.
const PLACES: [&str; 2] = ["Remotes", "Additional_repositories"];
/// Longer ones first, for they begin with the shorter.
const OPERATORS: [&str; 7] = [">=", "<=", "!=", "==", ">", "<", "="];
/// Its version may be bounded like that of a package.
const LANGUAGE: &str = "R";

/// A part of the file, or what is wrong with it, and where.
type Parsed<T> = Result<T, String>;

/// One field, with the numbers of its lines.
struct Field<'a> {
    name: &'a str,
    lines: Vec<(usize, &'a str)>,
}

/// The same needs in one form: sorted, each once. Empty where the file names no package.
pub(super) fn canonical(text: &str) -> Parsed<String> {
    if text.len() > MAX_BYTES {
        return Err(format!("has more than {MAX_BYTES} bytes"));
    }
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (number, entry) in asked(&fields(text)?)? {
        let at = |why: String| format!("line {number}, `{}`, {why}", shown(&entry));
        let (name, bound) = need(&entry).map_err(at)?;
        needs.entry(name).or_default().extend(bound);
        if needs.len() > MAX_PACKAGES || needs.values().map(BTreeSet::len).sum::<usize>() > MAX_BOUNDS {
            return Err(at(format!("is one more than the {MAX_PACKAGES} packages that are taken")));
        }
    }
    // That R is needed says nothing.
    needs.retain(|name, bounds| name != LANGUAGE || !bounds.is_empty());
    let entries = needs.into_iter().flat_map(|(name, bounds)| {
        let bare = bounds.is_empty().then(|| name.clone());
        let bounded: Vec<_> = bounds.into_iter().map(|bound| format!("{name} ({bound})")).collect();
        bare.into_iter().chain(bounded)
    });
    let entries: Vec<_> = entries.collect();
    Ok(if entries.is_empty() { String::new() } else { format!("Imports: {}\n", entries.join(",\n ")) })
}

/// The fields of the one record that the file is: `Name: value`, which goes on in lines that start with a space.
fn fields(text: &str) -> Parsed<Vec<Field<'_>>> {
    let mut fields: Vec<Field<'_>> = Vec::new();
    let mut ended = false;
    for (index, line) in text.trim_start_matches('\u{feff}').split('\n').enumerate() {
        let (number, line) = (index + 1, line.strip_suffix('\r').unwrap_or(line));
        let fault = |why: &str| Err(format!("line {number}, `{}`, {why}", shown(line)));
        if line.trim().is_empty() {
            ended |= !fields.is_empty();
            continue;
        }
        if ended {
            return fault("is after an empty line, which ends the file's one record");
        }
        match (line.starts_with([' ', '\t']), fields.last_mut(), line.split_once(':')) {
            (true, Some(field), _) => field.lines.push((number, line)),
            (false, _, Some((name, value))) if is_field(name) => {
                fields.push(Field { name, lines: vec![(number, value)] });
            }
            _ => return fault("is no field such as `Imports: dplyr`, and goes on with none"),
        }
    }
    Ok(fields)
}

fn is_field(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@/-".contains(&byte);
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(is_inner)
}

/// What is between the commas of the fields that count, with the line where it starts.
fn asked(fields: &[Field<'_>]) -> Parsed<Vec<(usize, String)>> {
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    for Field { name, lines } in fields {
        let first = lines.first().map_or(0, |(number, _)| *number);
        if PLACES.contains(name) && lines.iter().any(|(_, line)| !line.trim().is_empty()) {
            return Err(format!(
                "line {first}, `{name}`, says where packages are to come from; only those of this server's registry are taken"
            ));
        }
        if !NEEDS.contains(name) {
            continue;
        }
        if !seen.insert(*name) {
            return Err(format!("line {first}, `{name}`, is there once already"));
        }
        let mut open: Option<(usize, String)> = None;
        for (number, line) in lines {
            for (at, piece) in line.split(',').enumerate() {
                if at > 0 {
                    entries.extend(open.take());
                }
                let piece = piece.trim_matches([' ', '\t']);
                match &mut open {
                    Some((_, entry)) if !piece.is_empty() => {
                        entry.push(' ');
                        entry.push_str(piece);
                    }
                    None if !piece.is_empty() => open = Some((*number, piece.to_owned())),
                    _ => {}
                }
            }
        }
        entries.extend(open);
    }
    Ok(entries)
}

/// `name` or `name (>= version)`.
fn need(entry: &str) -> Parsed<(String, Option<String>)> {
    if entry.contains(['/', '@', ':']) {
        return Err(
            "is an address; only packages of this server's registry are taken, by their names".to_owned()
        );
    }
    let (name, rest) = entry.split_at(entry.find([' ', '\t', '(']).unwrap_or(entry.len()));
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
    let is_name = name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(is_inner)
        && !name.ends_with('.');
    if !is_name {
        return Err("is no name of a package".to_owned());
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    if rest.is_empty() {
        return Ok((name.to_owned(), None));
    }
    let bound = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).and_then(bound);
    let bound = bound.ok_or("has no version like `(>= 1.2.3)` after its name")?;
    Ok((name.to_owned(), Some(bound)))
}

/// `>= 1.2.3`, in one spelling.
fn bound(text: &str) -> Option<String> {
    let text = text.trim_matches([' ', '\t']);
    let operator = OPERATORS.into_iter().find(|operator| text.starts_with(operator))?;
    let version = text[operator.len()..].trim_start_matches([' ', '\t']);
    let numbers: Vec<_> = version.split(['.', '-']).collect();
    let is_number = |number: &&str| {
        (1..=MAX_DIGITS).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_version = numbers.len() <= MAX_NUMBERS && numbers.iter().all(is_number);
    let operator = if operator == "=" { "==" } else { operator };
    is_version.then(|| format!("{operator} {}", numbers.join(".")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_means_the_same_becomes_the_same() {
        let expected = "Imports: R (>= 4.1),\n R6,\n data.table (< 2),\n data.table (>= 1.14.0)\n";
        for text in [
            "Depends: R (>= 4.1)\nImports: R6, data.table (>= 1.14.0), data.table (< 2)\n",
            "\u{feff}Package: x\r\nTitle: Of: colons, and\r\n  more lines\r\nImports:\r\n    data.table(>=1.14-0)  ,R6\r\n\t, \
             data.table\r\n (<2),\r\nDepends: R(>=4.1),R6\r\n\r\n",
            "LinkingTo: cpp11\nSuggests: evil/pkg\nRemotes:\nImports: R6, R6, data.table ( >= 1.14.0 ), data.table (< 2), R\n\
             Depends: R (>= 4.1)",
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(canonical(expected).as_deref(), Ok(expected));
        assert_eq!(canonical("Imports: a.b (= 1)").as_deref(), Ok("Imports: a.b (== 1)\n"));
        for none in ["", "\n \n", "Package: x\nDepends: R\n", "Imports:\n"] {
            assert_eq!(canonical(none).as_deref(), Ok(""), "{none}");
        }
    }

    /// Case F01.
    #[test]
    fn f01_nothing_but_names_and_versions_passes() {
        for entry in [
            "github::tidyverse/dplyr",
            "tidyverse/dplyr",
            "https://evil.example/x.tar.gz",
            "./x",
            "dplyr@1.0",
            "dplyr==1.0",
            "dplyr 1.0",
            "dplyr (>= 1.0",
            "dplyr >= 1.0)",
            "dplyr (>= 1.0) x",
            "dplyr (~> 1.0)",
            "dplyr (1.0)",
            "dplyr ()",
            "dplyr (>= )",
            "dplyr (>= 1..0)",
            "dplyr (>= 1.0.)",
            "dplyr (>= 1.0a)",
            "dplyr (>= 99999999999)",
            "dplyr (>= 1.0.0.0.0.0.0.0.0.0.0)",
            "-o",
            "--help",
            "d\u{1f4a9}",
            "dplyr+",
            "dplyr.",
            ".dplyr",
            "1dplyr",
            "dp_lyr",
            "dplyr'",
            "dplyr$(id)",
            "dplyr;id",
            "dplyr|id",
            "dplyr\0",
        ] {
            let text = format!("Package: x\nImports:\n    R6,\n    {entry},\n    cli\n");
            let fault = canonical(&text).expect_err(entry);
            assert!(fault.starts_with("line 4, `"), "{entry}: {fault}");
        }
    }

    #[test]
    fn a_file_of_another_form_is_refused_by_line() {
        for (text, says) in [
            ("Package: x\nRemotes: a/b\nImports: b\n", "line 2, `Remotes`, "),
            ("Additional_repositories:\n  https://evil.example\n", "line 1, `Additional_repositories`, "),
            ("Imports: a\nImports: b\n", "line 2, `Imports`, "),
            ("Package: x\n\nImports: b\n", "line 3, `Imports: b`, "),
            ("Package: x\ndplyr\n", "line 2, `dplyr`, "),
            ("  Imports: a\n", "line 1, "),
            ("# comment: x\n", "line 1, "),
            ("{\"dependencies\": {}}", "line 1, "),
        ] {
            let fault = canonical(text).expect_err(text);
            assert!(fault.starts_with(says), "{text}: {fault}");
        }
    }

    #[test]
    fn there_is_an_end_to_how_much_is_taken() {
        let many = |count: usize| (0..count).map(|number| format!(" p{number},\n")).collect::<String>();
        assert!(canonical(&format!("Imports:\n{}", many(MAX_PACKAGES))).is_ok());
        let fault = canonical(&format!("Imports:\n{}", many(MAX_PACKAGES + 1))).unwrap_err();
        assert!(fault.starts_with(&format!("line {}", MAX_PACKAGES + 2)), "{fault}");
        let bounds: String = (0..=MAX_BOUNDS).map(|number| format!(" p (> {number}),\n")).collect();
        assert!(canonical(&format!("Imports:\n{bounds}")).is_err());
        assert!(canonical(&format!("Title: {}", "x".repeat(MAX_BYTES))).is_err());
        assert!(canonical(&format!("Imports: {}", "x".repeat(MAX_NAME + 1))).is_err());
    }

    proptest! {
        /// Whatever comes, what the installer gets is plain, and means itself.
        #[test]
        fn what_passes_is_a_fixed_point_of_few_letters(
            text in "(Imports:|Depends:|[a-zA-Z0-9._:/ ,()<>=!\\-\n]|\n |\\(>= ){0,40}",
        ) {
            if let Ok(first) = canonical(&text) {
                prop_assert_eq!(canonical(&first), Ok(first.clone()));
                let is_plain = |c: char| c.is_ascii_alphanumeric() || " ,.()<>=!\n".contains(c);
                let value = first.strip_prefix("Imports: ").unwrap_or_default();
                prop_assert!(value.chars().all(is_plain), "{}", first);
            }
        }

        #[test]
        fn a_good_entry_passes_in_any_spelling(
            name in "[a-zA-Z][a-zA-Z0-9.]{0,20}[a-zA-Z0-9]", version in "[0-9]{1,3}([.-][0-9]{1,3}){0,3}", space in "[ \t]{0,3}",
        ) {
            let text = format!("Imports:{space}{name}{space}({space}>={space}{version}{space}){space}");
            let expected = format!("Imports: {name} (>= {})\n", version.replace('-', "."));
            prop_assert_eq!(canonical(&text), Ok(expected));
        }
    }
}
