//! The example plugin, from its source to its alerts.

use std::collections::BTreeSet;

use millstream_runtime::Outcome;

use crate::{RUNTIME, batch, built, setup};

#[test]
fn a_week_of_earthquakes_gives_85_alerts() {
    let component = built::component("plugins/quake-alert", "quake_alert.wasm");
    let plugin = RUNTIME.compile(&component).unwrap();
    // What the SDK offers and the plugin does not use is not there.
    let own = plugin.imports().iter().filter(|import| {
        ![
            "wasi:cli/",
            "wasi:clocks/",
            "wasi:filesystem/",
            "wasi:io/",
            "wasi:random/",
        ]
        .iter()
        .any(|runtime| import.starts_with(runtime))
    });
    let expect = [
        "wasi:config/store@0.2.0-rc.1",
        "wasi:logging/logging@0.1.0-draft",
    ];
    assert_eq!(own.collect::<Vec<_>>(), expect);

    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/earthquakes.ndjson"
    );
    let earthquakes = std::fs::read_to_string(path).unwrap();
    let values: Vec<_> = earthquakes.lines().map(str::as_bytes).collect();
    assert_eq!(values.len(), 1_707);

    let (mut setup, kept) = setup();
    setup.outputs = vec!["elsewhere".into(), "alerts".into()];
    let mut worker = plugin.start(setup.clone()).unwrap();
    assert_eq!(kept.lines()[0].2, "alerts from magnitude 4.5");

    // Chunks of two batches, as a worker may read them.
    let (mut inputs, mut networks) = (BTreeSet::new(), BTreeSet::new());
    for (chunk, values) in (0..).zip(values.chunks(200)) {
        let (first, second) = values.split_at(values.len() / 2);
        let base = chunk * 200;
        let batches = [batch(base, first), batch(base + first.len() as u64, second)].concat();
        let outcomes = worker.handle(&batches).unwrap().outcomes;
        assert_eq!(outcomes.records() as usize, values.len());
        for outcome in &outcomes {
            let Outcome::Emit(emit) = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(emit.output, 1);
            inputs.insert(base + u64::from(emit.input));
            networks.insert(emit.key.unwrap().to_vec());
            assert!(emit.value.unwrap().starts_with(b"{\"id\":\""));
        }
    }
    assert_eq!(inputs.len(), 85);
    assert!(networks.contains(&b"us"[..]));

    setup.config = vec![("min-mag".into(), "weak".into())];
    let refused = plugin.start(setup).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "init refused: min-mag must be a number, not `weak`"
    );
}
