use clap::error::ErrorKind;

use super::*;

fn refusal(line: &str) -> clap::Error {
    Cli::try_parse_from(line.split(' ')).expect_err(line)
}

#[test]
fn the_command_line_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn lines_that_people_type() {
    for line in [
        "millstream dev --data-dir d --listen 127.0.0.1:0 --ready-file r --force-profile",
        "millstream server --config millstream.toml --check",
        "millstream server --print-default-config",
        "millstream demo --workspace .",
        "millstream topic create orders --partitions 4 --retention 7d --durability relaxed --if-not-exists",
        "millstream topic list --internal",
        "millstream topic describe orders payments --output json",
        "millstream topic alter orders --retention none",
        "millstream topic delete orders",
        "millstream topic delete-records orders --partition 0 --before 100",
        "millstream produce orders a.ndjson --key-field id --compression zstd",
        "millstream produce orders --ranges h,p --key-separator :",
        "millstream consume orders --from time:2018-01-30T00:00:00Z --follow --group billing -n 5",
        "millstream consume orders --partition 0 --partition 1 --format key-value",
        "millstream group reset billing --topic orders --to 15m",
        "millstream group offsets billing",
        "millstream plugin build plugins/quake-alert -- --locked",
        "millstream plugin deploy x.wasm --input a --output-topic alerts=b --config k=v --create-topics --partitions 2",
        "millstream plugin deploy -f deployment.toml --replace",
        "millstream plugin run x.wasm --records r.ndjson --key-field id --output-name alerts --config k=v --output json",
        "millstream plugin run -f deployment.toml --records - --expect e.tsv --records-per-call 1",
        "millstream plugin new quake-alert --language rust --sdk sdk/plugin",
        "millstream plugin logs quake-alert --follow --tail 10",
        "millstream -q --profile p --address localhost:1 broker describe",
        "millstream completions zsh",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
    }
}

#[test]
fn global_options_stand_anywhere() {
    for line in [
        "millstream --output json topic list",
        "millstream topic --output json list",
        "millstream topic list -o json",
    ] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.output(), OutputFormat::Json, "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let check = |line, kind| assert_eq!(refusal(line).kind(), kind, "{line}");
    check(
        "millstream",
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    );
    check("millstream topics list", ErrorKind::InvalidSubcommand);
    check(
        "millstream topic create",
        ErrorKind::MissingRequiredArgument,
    );
    check(
        "millstream topic create orders --partitions 0",
        ErrorKind::ValueValidation,
    );
    check(
        "millstream topic list --output xml",
        ErrorKind::InvalidValue,
    );
    check("millstream topic list -v -q", ErrorKind::ArgumentConflict);
    check(
        "millstream consume orders --from yesterday",
        ErrorKind::ValueValidation,
    );
    check(
        "millstream consume orders --group g --partition 0",
        ErrorKind::ArgumentConflict,
    );
    check(
        "millstream dev --listen localhost",
        ErrorKind::ValueValidation,
    );
    check("millstream server", ErrorKind::MissingRequiredArgument);
    check(
        "millstream plugin deploy x.wasm",
        ErrorKind::MissingRequiredArgument,
    );
    check(
        "millstream plugin deploy -f deployment.toml --input a",
        ErrorKind::ArgumentConflict,
    );
    check(
        "millstream plugin new p --language cobol",
        ErrorKind::InvalidValue,
    );
    check(
        "millstream server --config a --print-default-config",
        ErrorKind::ArgumentConflict,
    );
    check(
        "millstream broker describe --address quic://host:1",
        ErrorKind::ValueValidation,
    );
}

#[test]
fn a_bad_value_is_explained() {
    insta::assert_snapshot!(refusal("millstream consume orders --from yesterday"), @r"
    error: invalid value 'yesterday' for '--from <POSITION>': expected earliest, latest, offset:N, time:T (RFC 3339 or milliseconds since 1970) or a duration back from now, for example 15m

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refusal("millstream topic create orders --retention soon"), @r"
    error: invalid value 'soon' for '--retention <DURATION>': expected a duration, for example 500ms, 30s, 1h30m or 7d, or none

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refusal("millstream plugin deploy x.wasm --input a --output-topic alerts"), @r"
    error: invalid value 'alerts' for '--output-topic <OUTPUT=TOPIC>': expected OUTPUT=TOPIC

    For more information, try '--help'.
    ");
}

#[test]
fn the_two_meanings_of_output_are_told_apart() {
    let refusal = refusal("millstream plugin deploy x.wasm --input a --output alerts=b");
    insta::assert_snapshot!(with_tip(refusal), @r"
    error: invalid value 'alerts=b' for '--output <FORMAT>'
      [possible values: table, json]

      tip: the topic of a plugin's output is named by '--output-topic OUTPUT=TOPIC'

    For more information, try '--help'.
    ");
}

#[test]
fn what_a_file_declares_is_not_said_by_options_as_well() {
    for options in ["-f d.toml --grant clocks", "--grant clocks -f d.toml"] {
        let refused = with_tip(refusal(&format!("millstream plugin deploy {options}")));
        let refused = refused.to_string();
        assert!(
            refused.contains("'--grant <GRANT>'") && refused.contains("'--file <FILE>'"),
            "{refused}"
        );
        assert!(refused.contains("tip: the file declares all"), "{refused}");
    }
    let several = "millstream plugin deploy -f d.toml --grant clocks --partitions 2 --memory 1MiB";
    insta::assert_snapshot!(with_tip(refusal(several)), @r"
    error: the argument '--file <FILE>' cannot be used with:
      --grant <GRANT>
      --partitions <N>
      --memory <BYTES>

      tip: the file declares all of the deployment: change it there, or leave out '--file' and give all of it as options

    Usage: millstream plugin deploy --file <FILE> [COMPONENT|FOLDER]

    For more information, try '--help'.
    ");
    let run = "millstream plugin run -f d.toml --records r --output-name o";
    assert!(with_tip(refusal(run)).to_string().contains("tip: the file"));
}

#[test]
fn help_lists_the_commands_and_exit_codes() {
    let help = Cli::command().term_width(100).render_help().to_string();
    for text in [
        "consume",
        "demo",
        "completions",
        "--profile",
        "--output",
        "Exit codes:",
        "130  interrupted",
    ] {
        assert!(help.contains(text), "{text} is missing in\n{help}");
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in clap::ValueEnum::value_variants() {
        let shell: &Shell = shell;
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "millstream", &mut script);
        assert!(
            String::from_utf8(script)
                .unwrap()
                .contains("delete-records"),
            "{shell}"
        );
    }
}
