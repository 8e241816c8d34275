//! The passages that nobody may upload.

use std::error::Error;

use millstream_plugin::Context;

/// Passages, as they are compared: words in lower case, one space between them.
pub(crate) struct Protected(Vec<Passage>);

struct Passage {
    work: String,
    words: String,
}

impl Protected {
    /// Reads `protected`: one passage a line, `work: passage`. Without it, nothing is protected.
    ///
    /// # Errors
    ///
    /// A line is not of that form.
    pub(crate) fn configured(context: &Context) -> Result<Self, Box<dyn Error>> {
        let lines = context.config("protected").unwrap_or_default().lines();
        let lines = lines.map(str::trim).filter(|line| !line.is_empty());
        let passage = |line: &str| {
            let (work, passage) = line.split_once(':').unwrap_or_default();
            let (work, words) = (work.trim().to_owned(), words(passage));
            if work.is_empty() || words.trim().is_empty() {
                return Err(format!("protected: `{line}` is not `work: passage`").into());
            }
            Ok(Passage { work, words })
        };
        lines.map(passage).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Why this content may not be published. Punctuation, case and line breaks hide nothing.
    pub(crate) fn found_in(&self, content: &str) -> Option<String> {
        let content = words(content);
        let found = |passage: &&Passage| content.contains(&passage.words);
        let passage = self.0.iter().find(found)?;
        Some(format!("it has a passage of {}", passage.work))
    }
}

/// The words of a text in lower case, with a space around each.
fn words(text: &str) -> String {
    let words = text.split(|letter: char| !letter.is_alphanumeric());
    words
        .filter(|word| !word.is_empty())
        .fold(String::from(" "), |text, word| {
            text + &word.to_lowercase() + " "
        })
}
