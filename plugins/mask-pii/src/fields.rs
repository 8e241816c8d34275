//! Which fields are redacted: names, as a tree.

use std::collections::BTreeMap;
use std::fmt;

/// The fields of one object that matter, by their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(BTreeMap<String, Field>);

/// A field that matters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// Its value is redacted, whatever it is.
    Redact,
    /// Fields below it are: in its object, or in the objects of its array.
    Within(Fields),
}

impl Fields {
    /// Reads `email, user.phone`: names, or paths of names from the outermost object on. Where one
    /// path goes on behind the end of another, the shorter one has all of it.
    pub(crate) fn parse(text: &str) -> Result<Self, EmptyName> {
        let mut fields = Self::default();
        for path in text.split(',').map(str::trim) {
            if path.split('.').any(str::is_empty) {
                return Err(EmptyName {
                    path: path.to_owned(),
                });
            }
            fields.insert(path);
        }
        Ok(fields)
    }

    fn insert(&mut self, path: &str) {
        let Some((name, rest)) = path.split_once('.') else {
            self.0.insert(path.into(), Field::Redact);
            return;
        };
        let field = self
            .0
            .entry(name.into())
            .or_insert_with(|| Field::Within(Self::default()));
        if let Field::Within(fields) = field {
            fields.insert(rest);
        }
    }

    /// The field of this name, if it matters.
    pub(crate) fn get(&self, name: &str) -> Option<&Field> {
        self.0.get(name)
    }
}

/// A path has a name with nothing in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EmptyName {
    path: String,
}

impl fmt::Display for EmptyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fields must be names or dotted paths, separated by commas, not `{}`",
            self.path
        )
    }
}

impl std::error::Error for EmptyName {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let fields = Fields::parse(text).unwrap();
        assert_eq!(format!("{fields:?}"), expect, "{text}");
    }

    #[test]
    fn paths_become_a_tree() {
        check(
            "email, user.phone ,user.card.number",
            r#"Fields({"email": Redact, "user": Within(Fields({"card": Within(Fields({"number": Redact})), "phone": Redact}))})"#,
        );
    }

    #[test]
    fn the_shorter_path_has_all_of_it() {
        check("user,user.phone", r#"Fields({"user": Redact})"#);
        check("user.phone,user", r#"Fields({"user": Redact})"#);
    }

    #[test]
    fn a_name_is_not_empty() {
        for (text, path) in [("", ""), ("a,,b", ""), ("a,b..c", "b..c"), (".a", ".a")] {
            let expect = EmptyName { path: path.into() };
            assert_eq!(Fields::parse(text), Err(expect), "{text}");
        }
    }
}
