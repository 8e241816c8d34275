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

/// Reads `name=value`; the value may be empty and may contain further `=`.
pub(crate) fn parse_pair(text: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Pair {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sign_divides() {
        let pair = |name: &str, value: &str| {
            Ok(Pair {
                name: name.to_owned(),
                value: value.to_owned(),
            })
        };
        assert_eq!(parse_pair("a=b=c"), pair("a", "b=c"));
        assert_eq!(parse_pair("a="), pair("a", ""));
        assert!(parse_pair("=b").is_err());
        assert!(parse_pair("ab").is_err());
    }
}
