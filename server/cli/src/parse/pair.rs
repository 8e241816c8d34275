//! `name=value`.

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl From<Pair> for (String, String) {
    fn from(pair: Pair) -> Self {
        (pair.name, pair.value)
    }
}

/// Reads `name=value`; the value may be empty and may contain further `=`. `form` is what the two are
/// called in the option's help, as `TABLE=TOPIC`.
pub(crate) fn pair(form: &'static str) -> impl Fn(&str) -> Result<Pair, String> + Clone {
    move |text| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Pair {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err(format!("expected {form}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sign_divides() {
        let read = pair("TABLE=TOPIC");
        let is = |name: &str, value: &str| {
            Ok(Pair {
                name: name.to_owned(),
                value: value.to_owned(),
            })
        };
        assert_eq!(read("a=b=c"), is("a", "b=c"));
        assert_eq!(read("a="), is("a", ""));
        for none in ["=b", "ab"] {
            assert_eq!(read(none), Err("expected TABLE=TOPIC".to_owned()));
        }
    }
}
