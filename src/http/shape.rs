//! The shape of a JSON body, checked over its text before any value of it is made: types, names, names that come twice,
//! and how many values there are. A walk keeps nothing but the names of the objects that it is in.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::http::error::{ApiError, Code};

/// Items of lists and fields of objects in one body, but for those of [`Shape::Any`], which stay text. Four for each of
/// the 10,000 files that a project may have, and some.
pub(super) const MAX_VALUES: usize = 50_000;
/// Names of an object and of those around it, which have to be kept to find one that comes twice.
const MAX_NAMES: usize = 100_000;
/// Levels of lists and objects in each other that the parser takes.
const MAX_DEPTH: usize = 127;
/// Characters of a name for which a similar one is looked for; none is longer.
const MAX_SIMILAR: usize = 64;
/// Bytes of a value that an error shows.
const MAX_SHOWN: usize = 60;

/// What a value has to be.
#[derive(Debug)]
pub(super) enum Shape {
    /// Any JSON.
    Any,
    /// A text.
    Text,
    /// One of these texts.
    Word(&'static [&'static str]),
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A list.
    List(&'static Self),
    /// An object of such values by name.
    Map(&'static Self),
    /// The first if it is a list, the second if it is an object.
    Either(&'static Self, &'static Self),
    /// `NAME=value`.
    Pair,
    /// An object with these fields; a field may be `null`, which means that it is absent.
    Object(&'static [(&'static str, Self)]),
    /// An object with these fields, of which the first so many must be there, and none may be `null`.
    Whole(usize, &'static [(&'static str, Self)]),
}

impl Shape {
    /// What would be right, for an error.
    fn wanted(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Any => "any JSON",
            Self::Text => "a text",
            Self::Word(words) => return format!("one of {}", quoted(words)).into(),
            Self::Number => "a number",
            Self::Flag => "true or false",
            Self::List(item) => return format!("a list of {}", item.several()).into(),
            Self::Map(value) => return format!("an object of {} by name", value.several()).into(),
            Self::Either(list, map) => return format!("{} or {}", list.wanted(), map.wanted()).into(),
            Self::Pair => "a text like \"NAME=value\"",
            Self::Object(_) => "an object",
            Self::Whole(_, fields) => {
                let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
                return format!("an object like {{{}}}", names.join(", ")).into();
            }
        })
    }

    fn several(&self) -> Cow<'static, str> {
        match self {
            Self::Text => "texts".into(),
            Self::Pair => "texts like \"NAME=value\"".into(),
            Self::Whole(..) => self.wanted().replacen("an object", "objects", 1).into(),
            other => other.wanted(),
        }
    }

    fn list(&self) -> Option<&'static Self> {
        match self {
            Self::Any => Some(&Self::Any),
            Self::List(item) => Some(item),
            Self::Either(list, _) => list.list(),
            _ => None,
        }
    }

    fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.join(", ")
}

/// Checks a body; the error names the field and the place.
pub(super) fn check(json: &[u8], shape: &'static Shape) -> Result<(), ApiError> {
    let walk = Walk::default();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let checked = Value { walk: &walk, shape, nullable: false }.deserialize(&mut reader);
    checked.and_then(|()| reader.end()).map_err(|error| walk.told(&error))
}

/// A way into the body.
#[derive(Debug)]
enum Step<'de> {
    Name(Cow<'de, str>),
    Index(usize),
}

/// Where the walk is, and what it found.
#[derive(Default)]
struct Walk<'de> {
    path: RefCell<Vec<Step<'de>>>,
    values: Cell<usize>,
    names: Cell<usize>,
    fault: RefCell<Option<(Code, String)>>,
}

impl<'de> Walk<'de> {
    fn enter(&self, step: Step<'de>) {
        self.path.borrow_mut().push(step);
    }

    fn leave(&self) {
        self.path.borrow_mut().pop();
    }

    /// Ends the walk. What the caller is told goes beside the parser's own error.
    fn fail<E: serde::de::Error>(&self, code: Code, what: impl Into<String>) -> E {
        self.fault.replace(Some((code, what.into())));
        E::custom("")
    }

    fn wrong<E: serde::de::Error>(&self, shape: &Shape, found: &str) -> E {
        self.fail(Code::BadJson, format!("this is {found}; give {}", shape.wanted()))
    }

    /// One more value that will be kept.
    fn count<E: serde::de::Error>(&self, shape: &Shape) -> Result<(), E> {
        if shape.is_any() {
            return Ok(());
        }
        self.values.set(self.values.get() + 1);
        if self.values.get() <= MAX_VALUES {
            return Ok(());
        }
        let what = format!(
            "the body has more than {MAX_VALUES} values, the limit; send many files as a tar archive"
        );
        Err(self.fail(Code::BadJson, what))
    }

    /// Where the walk stopped, like `files[0].name`.
    fn place(&self) -> String {
        let mut place = String::new();
        for step in self.path.borrow().iter() {
            match step {
                Step::Name(name) if place.is_empty() => place.push_str(name),
                Step::Name(name) => place.extend([".", name]),
                Step::Index(at) => place.push_str(&format!("[{at}]")),
            }
        }
        place
    }

    /// What the caller is told of the parser's error.
    fn told(&self, error: &serde_json::Error) -> ApiError {
        let place = self.place();
        let place = if place.is_empty() { "the body".to_owned() } else { without_middle(&place, 100, 50) };
        let (line, column) = (error.line(), error.column());
        let (code, what) = self.fault.take().unwrap_or_else(|| {
            let message = error.to_string();
            let what = if error.is_eof() {
                "the JSON ends in the middle".to_owned()
            } else if message.starts_with("recursion limit") {
                format!("the JSON is nested deeper than {MAX_DEPTH} levels, the limit; nest it less")
            } else {
                let said = message.split(" at line ").next().unwrap_or_default();
                format!("the JSON can't be read: {}", without_middle(said, 200, 200))
            };
            (Code::BadJson, what)
        });
        ApiError::new(code, format!("{place}: {what} (line {line} column {column})"))
    }
}

/// A text that quotes what was sent can be as long as the body: no more of it than this many bytes at each end.
fn without_middle(text: &str, start: usize, end: usize) -> String {
    if text.len() <= start + end {
        return text.to_owned();
    }
    let (start, end) = (text.floor_char_boundary(start), text.ceil_char_boundary(text.len() - end));
    format!("{} ... {}", &text[..start], &text[end..])
}

/// A value that is to be of a shape.
struct Value<'w, 'de> {
    walk: &'w Walk<'de>,
    shape: &'static Shape,
    nullable: bool,
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Value<'_, 'de> {
    fn scalar<E: serde::de::Error>(&self, fits: bool, found: impl FnOnce() -> String) -> Result<(), E> {
        if fits || self.shape.is_any() { Ok(()) } else { Err(self.walk.wrong(self.shape, &found())) }
    }

    fn number<E: serde::de::Error>(&self, number: impl fmt::Display) -> Result<(), E> {
        self.scalar(matches!(self.shape, Shape::Number), || format!("the number {number}"))
    }

    /// The shape of a field, and whether it may be null.
    fn field<E: serde::de::Error>(
        &self,
        shape: &'static Shape,
        name: &str,
    ) -> Result<(&'static Shape, bool), E> {
        match shape {
            Shape::Any => Ok((shape, true)),
            Shape::Map(value) => Ok((value, false)),
            Shape::Object(fields) | Shape::Whole(_, fields) => {
                let found = fields.iter().find(|(field, _)| *field == name);
                let nullable = matches!(shape, Shape::Object(_));
                found.map(|(_, shape)| (shape, nullable)).ok_or_else(|| self.unknown(fields, name))
            }
            _ => Err(self.walk.wrong(self.shape, "an object")),
        }
    }

    fn unknown<E: serde::de::Error>(&self, fields: &'static [(&'static str, Shape)], name: &str) -> E {
        self.walk.leave();
        let shown = without_middle(name, 100, 50);
        let hint = match similar(fields, name) {
            Some(similar) => format!("did you mean `{similar}`?"),
            None => {
                let names: Vec<_> = fields.iter().map(|(name, _)| format!("`{name}`")).collect();
                format!("the fields are {}", names.join(", "))
            }
        };
        self.walk.fail(Code::UnknownField, format!("there is no field `{shown}`; {hint}"))
    }
}

/// The name that was probably meant: one with few slips in it, one of which this is a whole word, or one of `config`.
fn similar(fields: &'static [(&'static str, Shape)], name: &str) -> Option<String> {
    if name.len() > MAX_SIMILAR {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let slips = |field: &str| strsim::damerau_levenshtein(&name, field);
    // As many slips as a word of this length may have and still be the same word.
    let near = fields.iter().map(|(field, _)| (slips(field), *field));
    let near = near.filter(|(slips, field)| *slips <= (field.len() / 3).max(1)).min();
    let part =
        || fields.iter().map(|(field, _)| *field).find(|field| field.split('_').any(|word| word == name));
    let inner = || {
        fields.iter().find_map(|(outer, shape)| match shape {
            Shape::Object(inner) => similar(inner, &name).map(|inner| format!("{outer}.{inner}")),
            _ => None,
        })
    };
    near.map(|(_, field)| field).or_else(part).map(str::to_owned).or_else(inner)
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shape.wanted())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar(self.nullable, || "null".to_owned())
    }

    fn visit_bool<E: serde::de::Error>(self, flag: bool) -> Result<(), E> {
        self.scalar(matches!(self.shape, Shape::Flag), || flag.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.number(number)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.number(number)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        self.number(number)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let shown = || format!("the text {:?}", without_middle(text, MAX_SHOWN, 0));
        match self.shape {
            Shape::Text => Ok(()),
            Shape::Pair => self.scalar(text.contains('='), || format!("{} without a `=`", shown())),
            Shape::Word(words) => self.scalar(words.contains(&text), shown),
            _ => self.scalar(false, shown),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let item = self.shape.list().ok_or_else(|| self.walk.wrong(self.shape, "a list"))?;
        for at in 0.. {
            self.walk.enter(Step::Index(at));
            let value = Value { walk: self.walk, shape: item, nullable: item.is_any() };
            if seq.next_element_seed(value)?.is_none() {
                self.walk.leave();
                return Ok(());
            }
            self.walk.count(item)?;
            self.walk.leave();
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let shape = match self.shape {
            Shape::Either(_, map) => map,
            other => other,
        };
        if !matches!(shape, Shape::Any | Shape::Map(_) | Shape::Object(_) | Shape::Whole(..)) {
            return Err(self.walk.wrong(self.shape, "an object"));
        }
        let mut names = HashSet::new();
        while let Some(name) = map.next_key_seed(Name)? {
            self.walk.enter(Step::Name(name.clone()));
            let (field, nullable) = self.field(shape, &name)?;
            if names.contains(&name) {
                return Err(self
                    .walk
                    .fail(Code::BadJson, "this name comes twice in its object; give it once"));
            }
            names.insert(name);
            self.walk.count(field)?;
            self.walk.names.set(self.walk.names.get() + 1);
            if self.walk.names.get() > MAX_NAMES {
                let what =
                    format!("the object has more than {MAX_NAMES} names, the limit; use a list, or a file");
                return Err(self.walk.fail(Code::BadJson, what));
            }
            map.next_value_seed(Value { walk: self.walk, shape: field, nullable })?;
            self.walk.leave();
        }
        self.walk.names.set(self.walk.names.get() - names.len());
        if let Shape::Whole(needed, fields) = shape
            && let Some((missing, _)) = fields[..*needed].iter().find(|(field, _)| !names.contains(*field))
        {
            return Err(self
                .walk
                .fail(Code::BadJson, format!("`{missing}` is missing; give {}", shape.wanted())));
        }
        Ok(())
    }
}

/// A name of an object, borrowed from the body where nothing in it is escaped.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}
