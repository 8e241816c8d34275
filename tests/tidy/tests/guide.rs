//! What the guide has a reader do to files of the tree fits them as they are.

mod workspace;

use std::fs;

use workspace::root;

/// How a patch begins and ends in the guide.
const PATCH: &str = "\npatch ";
const HERE: &str = " <<'EOF'\n";
const END: &str = "\nEOF\n";

/// What the guide calls the copy of a plugin that it changes.
const COPY: &str = "-2/";

/// Of a patch, what each hunk expects to find.
fn expected(patch: &str) -> Vec<String> {
    let hunks = patch.split("@@ ").filter(|hunk| hunk.starts_with('-'));
    let old = hunks.map(|hunk| {
        let lines = hunk.lines().skip(1).filter(|line| !line.starts_with('+'));
        lines.map(|line| format!("{}\n", &line[1..])).collect()
    });
    old.filter(|old: &String| !old.is_empty()).collect()
}

#[test]
fn patches_of_the_guide_fit_the_plugins() {
    let guide = fs::read_to_string(root().join("README.md")).expect("a guide");
    let mut hunks = 0;
    for rest in guide.split(PATCH).skip(1) {
        let (file, rest) = rest.split_once(HERE).expect("the file and its patch");
        let (patch, _) = rest.split_once(END).expect("an end of the patch");
        let original = file.replace(COPY, "/");
        let source = fs::read_to_string(root().join(&original)).expect(&original);
        for old in expected(patch) {
            assert!(source.contains(&old), "{original} has no more:\n{old}");
            hunks += 1;
        }
    }
    assert!(hunks > 0, "the guide patches nothing");
}
