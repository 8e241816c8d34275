//! A key of a state, as it is typed.

use std::str::FromStr;

use millstream_runtime::disturbs;

use crate::consume::format::hex;

/// What stands before hexadecimal digits.
const HEX: &str = "hex:";

/// A key, or the beginning of keys: text, or `hex:` and hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateKey(Vec<u8>);

impl StateKey {
    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }
}

impl FromStr for StateKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(digits) = text.strip_prefix(HEX) else {
            return Ok(Self(text.as_bytes().to_vec()));
        };
        let digits: Option<Vec<u8>> = digits
            .chars()
            .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
            .collect();
        match digits {
            Some(digits) if digits.len().is_multiple_of(2) => {
                let bytes = digits.chunks(2).map(|pair| 16 * pair[0] + pair[1]);
                Ok(Self(bytes.collect()))
            }
            _ => Err("expected an even number of hexadecimal digits after `hex:`".to_owned()),
        }
    }
}

/// A key that is text, as a shell and then [`StateKey`] take it.
pub(super) fn typed(text: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_./:@%+=,".contains(it);
    let is_taken_otherwise = text.starts_with(HEX) || text.starts_with('-');
    if is_taken_otherwise || text.chars().any(disturbs) {
        return typed_digits(&hex(text.as_bytes()));
    }
    let is_bare = !text.is_empty() && text.chars().all(|it| is_plain(it) || it == '-');
    if is_bare {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A key in hexadecimal digits.
pub(super) fn typed_digits(digits: &str) -> String {
    format!("{HEX}{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_digits() {
        let key = |text: &str| text.parse().map(StateKey::bytes);
        assert_eq!(key("order/7"), Ok(b"order/7".to_vec()));
        assert_eq!(key(""), Ok(Vec::new()));
        assert_eq!(key("hex:00fF"), Ok(vec![0, 255]));
        // A key that is text and begins so is typed in digits.
        assert_eq!(key("hex:6865783a"), Ok(b"hex:".to_vec()));
        assert!(key("hex:0").is_err() && key("hex:zz").is_err());
    }

    #[test]
    fn what_is_shown_is_what_a_shell_hands_on() {
        for text in [
            "",
            "order/7",
            "\"attic\"",
            "it's",
            "two words",
            "a\nb",
            "hex:00",
            "-n",
            "$HOME `x` \\",
            "ä",
            "a\u{202e}b",
        ] {
            let line = format!("printf %s {}", typed(text));
            let shell = std::process::Command::new("sh")
                .args(["-c", &line])
                .output()
                .unwrap();
            let typed = String::from_utf8(shell.stdout).unwrap();
            let key: StateKey = typed.parse().unwrap();
            assert_eq!(key.bytes(), text.as_bytes(), "{line}");
        }
    }
}
