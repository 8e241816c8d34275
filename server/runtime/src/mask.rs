//! Secrets in texts: what a guest was told is masked in what it says.

use std::borrow::Cow;

/// Shorter secrets, and shorter lines of secrets, are not looked for: they would turn up everywhere.
pub const MIN_SECRET_BYTES: usize = 4;

/// What stands in the place of a secret, whatever the secret's length.
const MASK: &str = "***";
const _: () = assert!(MASK.len() <= MIN_SECRET_BYTES);

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masks {
    /// As many as the operator has set while the guest read them; longer ones first, because they may
    /// hold shorter ones.
    secrets: Vec<String>,
}

impl Masks {
    /// Looks for this value from now on: for all of it, and for each of its lines, because logs are
    /// lines.
    pub(crate) fn add(&mut self, value: &str) {
        if self.secrets.iter().any(|known| known == value) {
            return;
        }
        for secret in std::iter::once(value).chain(value.lines()) {
            let secret = secret.trim();
            if secret.len() >= MIN_SECRET_BYTES && !self.secrets.iter().any(|it| it == secret) {
                self.secrets.push(secret.to_owned());
            }
        }
        self.secrets
            .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// The text without secrets.
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for secret in &self.secrets {
            if masked.contains(secret.as_str()) {
                masked = Cow::Owned(masked.replace(secret.as_str(), MASK));
            }
        }
        masked
    }

    /// The beginning of a text without secrets, and without what may be the beginning of one.
    pub(crate) fn beginning<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let masked = self.text(text);
        let begun = self.secrets.iter().map(|secret| begun(&masked, secret));
        match begun.max().unwrap_or(0) {
            0 => masked,
            begun => Cow::Owned(masked[..masked.len() - begun].to_owned()),
        }
    }

    /// Whether a secret stands in a text.
    pub(crate) fn finds(&self, text: &str) -> bool {
        let mut secrets = self.secrets.iter();
        secrets.any(|secret| text.contains(secret.as_str()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }
}

/// How many bytes at the end of a text are the beginning of a secret.
fn begun(text: &str, secret: &str) -> usize {
    let beginnings = secret.char_indices().map(|(at, _)| at).rev();
    let mut found = beginnings.filter(|at| text.ends_with(&secret[..*at]));
    found.next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(secrets: &[&str]) -> Masks {
        let mut masks = Masks::default();
        for secret in secrets {
            masks.add(secret);
        }
        masks
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let masks = masks(&["hunter2", "hunter2000", "añejo"]);
        assert_eq!(masks.text("nothing"), "nothing");
        assert_eq!(
            masks.text("hunter2, hunter2000, añejo, hunter"),
            "***, ***, ***, hunter"
        );
        assert!(masks.finds("x hunter2") && !masks.finds("x hunter"));
    }

    #[test]
    fn each_line_of_a_secret_is_one() {
        let masks = masks(&["-----BEGIN-----\nMIIEvQ\nxy\n-----END-----\n"]);
        assert_eq!(masks.text("key: MIIEvQ"), "key: ***");
        assert_eq!(masks.text("x, y"), "x, y");
    }

    #[test]
    fn what_is_too_short_would_be_found_everywhere() {
        let masks = masks(&["abc", ""]);
        assert!(masks.is_empty());
        assert_eq!(masks.text("abcabc"), "abcabc");
    }
}
