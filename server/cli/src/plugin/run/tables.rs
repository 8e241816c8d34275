//! The tables of a run: from files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use millstream_runtime::{MAX_TABLE_KEY_BYTES, Table};

use super::input::record;
use crate::errors::{Exit, Problem};
use crate::output::{bytes, plain};
use crate::parse::Pair;
use crate::produce::lines::{self, Source};
use crate::produce::{BadLine, LineFormat, parse_field};

/// Keys and values of one table, bytes: they are in memory.
const MAX_TABLE_BYTES: usize = 1 << 30;

/// The names of the tables that have files.
pub(super) fn names(files: &[Pair]) -> Vec<String> {
    let names: BTreeSet<_> = files.iter().map(|file| file.name.clone()).collect();
    names.into_iter().collect()
}

/// What is said of tables that no file fills; nothing when there are none.
pub(super) fn remark_on_empty(names: &[String], files: &[Pair]) -> Option<String> {
    let is_empty = |name: &&String| files.iter().all(|file| file.name != **name);
    let empty: Vec<_> = names.iter().filter(is_empty).map(|it| plain(it)).collect();
    let first = empty.first()?;
    let (tables, are) = match empty.as_slice() {
        [_] => ("table", "is"),
        _ => ("tables", "are"),
    };
    Some(format!(
        "the {tables} {} {are} empty here: `--table {first}=FILE` gives one its entries",
        empty.join(", ")
    ))
}

/// The tables of these names, from the files that are given for them.
pub(super) fn read(names: &[String], files: &[Pair], keys: &[Pair]) -> anyhow::Result<Vec<Table>> {
    for given in files.iter().chain(keys) {
        if !names.contains(&given.name) {
            let message = format!("the deployment has no table {}", given.name);
            let advice = match names {
                [] => "name it below [tables] of the deployment file, or fill it with `--table`"
                    .to_owned(),
                names => format!("it has {}", names.join(", ")),
            };
            return Err(Problem::usage(message).advise(advice).into());
        }
    }
    let table = |name: &String| {
        let mut entries = BTreeMap::new();
        let key = keys.iter().rev().find(|key| key.name == *name);
        let field = key.map(|key| parse_field(&key.value)).transpose();
        let field = field.map_err(|why| Problem::usage(format!("--table-key {name}: {why}")))?;
        let format = LineFormat::of_entries(field);
        for file in files.iter().filter(|file| file.name == *name) {
            let of = Entries {
                table: name,
                format: &format,
                key: key.map(|key| key.value.as_str()),
            };
            of.read(Path::new(&file.value), &mut entries)?;
        }
        Ok(Table {
            name: name.clone(),
            reader: Arc::new(entries),
        })
    };
    names.iter().map(table).collect()
}

/// How the lines of a table's files are read.
struct Entries<'a> {
    table: &'a str,
    format: &'a LineFormat,
    /// The field that is the key, as it was given.
    key: Option<&'a str>,
}

impl Entries<'_> {
    fn read(&self, path: &Path, entries: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> anyhow::Result<()> {
        let mut chunks = lines::read(vec![Source::of(path)]);
        let mut all_bytes = 0;
        while let Some(chunk) = chunks.blocking_recv() {
            let chunk = chunk.map_err(|(source, error)| {
                anyhow!(error).context(format!("cannot read {source}"))
            })?;
            for (line, text) in chunk.lines() {
                let entry = text.map_err(BadLine::from);
                let entry = entry.and_then(|text| record(self.format, text, line, 0));
                let entry = entry.map_err(|bad| self.no_entry(&chunk.source, line, &bad))?;
                let Some(entry) = entry else {
                    continue;
                };
                let key = entry.key.unwrap_or_default();
                if key.len() > MAX_TABLE_KEY_BYTES {
                    // As in a broker, nobody finds it.
                    continue;
                }
                all_bytes += key.len() + entry.value.as_ref().map_or(0, Vec::len);
                if all_bytes > MAX_TABLE_BYTES {
                    let limit = bytes(MAX_TABLE_BYTES as u64);
                    let message = format!("{} has more than {limit} of entries", path.display());
                    return Err(Problem::new(Exit::Refused, message)
                        .advise("deploy it to a broker, which keeps tables on the disk")
                        .into());
                }
                match entry.value {
                    Some(value) => entries.insert(key, value),
                    None => entries.remove(&key),
                };
            }
        }
        Ok(())
    }

    /// That a line sets no key of the table.
    fn no_entry(&self, source: &str, line: u64, bad: &BadLine) -> Problem {
        let table = self.table;
        let message = format!("line {line} of {source} is no entry of the table {table}: {bad}");
        Problem::new(Exit::Failure, message).advise(match self.key {
            None => format!(
                "an entry is KEY, a tab and VALUE; where each line is JSON, name the field that is the key: \
                 `--table-key {table}=FIELD`, for example `--table-key {table}=id`"
            ),
            Some(key) => format!(
                "with `--table-key {table}={key}` each line is a JSON object with the field {key}; without it, \
                 an entry is KEY, a tab and VALUE"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: impl Into<String>) -> Pair {
        Pair {
            name: name.to_owned(),
            value: value.into(),
        }
    }

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn get(table: &Table, key: &str) -> Option<String> {
        let value = table.reader.get(key.as_bytes()).unwrap();
        value.map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn lines_set_and_take_away() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let tabs = file("tabs", "a\told\nb\t2\nc\t3\nb\t\na\tnew\twith a tab\n");
        let json = file("json", "{\"code\":\"us\",\"of\":1}\n\n{\"code\":7}\n");
        let files = [pair("tabs", tabs), pair("json", json)];
        let keys = [pair("json", "code")];
        let tables = read(&named(&["tabs", "json", "empty"]), &files, &keys).unwrap();
        let [tabs, json, empty] = &tables[..] else {
            panic!("{tables:?}");
        };
        assert_eq!(get(tabs, "a").as_deref(), Some("new\twith a tab"));
        assert_eq!(get(tabs, "b"), None);
        assert_eq!(
            get(json, "us").as_deref(),
            Some("{\"code\":\"us\",\"of\":1}")
        );
        assert_eq!(get(json, "7").as_deref(), Some("{\"code\":7}"));
        assert_eq!(get(empty, "a"), None);
    }

    #[test]
    fn what_is_no_table_is_told() {
        let error = read(&named(&["a", "b"]), &[pair("c", "file")], &[]).unwrap_err();
        assert_eq!(error.to_string(), "the deployment has no table c");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "no tab here\n").unwrap();
        let files = [pair("a", path.display().to_string())];
        let error = read(&named(&["a"]), &files, &[]).unwrap_err();
        assert!(error.to_string().contains("line 1 of"), "{error}");
        let told = |line: &str, keys: &[Pair]| {
            std::fs::write(&path, format!("{line}\n")).unwrap();
            let error = read(&named(&["a"]), &files, keys).unwrap_err();
            let problem: Problem = error.downcast().unwrap();
            let told = format!("{problem}\n{}", problem.advice().unwrap_or_default());
            told.replace(&path.display().to_string(), "FILE")
        };
        insta::assert_snapshot!(told("{\"id\":1}", &[]), @r"
        line 1 of FILE is no entry of the table a: it has no tab between key and value
        an entry is KEY, a tab and VALUE; where each line is JSON, name the field that is the key: `--table-key a=FIELD`, for example `--table-key a=id`
        ");
        insta::assert_snapshot!(told("{\"id\":1}", &[pair("a", "net")]), @r"
        line 1 of FILE is no entry of the table a: it has no field net
        with `--table-key a=net` each line is a JSON object with the field net; without it, an entry is KEY, a tab and VALUE
        ");
    }

    #[test]
    fn tables_that_nothing_fills_are_told() {
        let files = [pair("b", "file")];
        let remark = |names: &[&str]| remark_on_empty(&named(names), &files);
        assert_eq!(remark(&[]), None);
        assert_eq!(remark(&["b"]), None);
        insta::assert_snapshot!(remark(&["a", "b"]).unwrap(), @"the table a is empty here: `--table a=FILE` gives one its entries");
        insta::assert_snapshot!(remark(&["a", "b", "c"]).unwrap(), @"the tables a, c are empty here: `--table a=FILE` gives one its entries");
    }
}
