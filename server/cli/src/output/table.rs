//! Text in columns.

use std::fmt::Display;
use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement};
use millstream_runtime::disturbs;

/// Spaces between two columns.
const GAP: u16 = 2;

/// A table without lines: one row a line, so that it can be searched and cut with the tools at
/// hand, whatever the terminal's width.
pub(crate) struct Table {
    table: comfy_table::Table,
    columns: &'static [&'static str],
    empty: &'static str,
}

impl Table {
    /// A table with these columns; one whose name begins with `#` holds numbers. `empty` is what is
    /// said when there are no rows.
    pub(crate) fn new(columns: &'static [&'static str], empty: &'static str) -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .force_no_tty();
        table.set_header(columns.iter().map(|column| column.trim_start_matches('#')));
        Self {
            table,
            columns,
            empty,
        }
    }

    /// Adds a row, a cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.table.add_row(cells.iter().map(|cell| {
            if cell.is_empty() {
                "-".to_owned()
            } else {
                plain(cell)
            }
        }));
    }

    /// The text, every line ended.
    pub(crate) fn text(mut self) -> String {
        if self.table.is_empty() {
            return format!("{}\n", self.empty);
        }
        for (column, name) in self.table.column_iter_mut().zip(self.columns) {
            column.set_padding((0, GAP));
            if name.starts_with('#') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = self.table.trim_fmt();
        text.push('\n');
        text
    }
}

/// Names and values below each other.
#[derive(Default)]
pub(crate) struct Facts(Vec<(&'static str, String)>);

impl Facts {
    pub(crate) fn fact(mut self, name: &'static str, value: impl Display) -> Self {
        self.0.push((name, value.to_string()));
        self
    }

    /// The text, every line ended.
    pub(crate) fn text(&self) -> String {
        let width = self
            .0
            .iter()
            .map(|(name, _)| name.len() + 1)
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for (name, value) in &self.0 {
            let name = format!("{name}:");
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:width$} {}", plain(value));
        }
        text
    }
}

/// A text fit for one line of a terminal: what could steer the terminal is written as its escape.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if disturbs(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_steers_the_terminal() {
        let mut table = Table::new(&["NAME", "#RECORDS", "NOTE"], "nothing");
        table.row(["orders".to_owned(), "12".to_owned(), String::new()]);
        table.row([
            "a\u{1b}[31m".to_owned(),
            "123456789".to_owned(),
            "häh\n".to_owned(),
        ]);
        insta::assert_snapshot!(table.text(), @r"
        NAME           RECORDS  NOTE
        orders              12  -
        a\u{1b}[31m  123456789  häh\n
        ");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["NAME"], "no topics").text(), "no topics\n");
    }

    #[test]
    fn facts_line_up() {
        let facts = Facts::default()
            .fact("name", "orders")
            .fact("partitions", 4);
        insta::assert_snapshot!(facts.text(), @r"
        name:       orders
        partitions: 4
        ");
    }
}
