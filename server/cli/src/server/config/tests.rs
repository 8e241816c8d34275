use std::fs;

use millstream_transport::Role;
use millstream_transport::identity::Authority;

use super::*;

/// A folder with a server's and a client's identity.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = Authority::create("test").unwrap();
    for (role, name, hosts) in [
        (Role::Server, "server", &["localhost"][..]),
        (Role::Client, "client", &[]),
    ] {
        let issued = authority.issue(role, name, hosts).unwrap();
        issued
            .save(
                &path(&format!("{name}.pem")),
                &path(&format!("{name}.key")),
                &path("ca.pem"),
            )
            .unwrap();
    }
    folder
}

const MINIMAL: &str = r#"
listen = "127.0.0.1:0"
data_dir = "data"
[identity]
certificate = "server.pem"
key = "server.key"
ca = "ca.pem"
"#;

/// What loading `text` says, without the name of the temporary folder.
fn fault(text: &str) -> String {
    let folder = folder();
    let path = folder.path().join("millstream.toml");
    fs::write(&path, text).unwrap();
    let config = ServerConfig::read(&path).and_then(ServerConfig::check);
    let error = config.err().expect("a fault");
    format!("{error:#}").replace(&*folder.path().to_string_lossy(), "/etc/millstream")
}

#[test]
fn little_is_needed_and_paths_start_at_the_file() {
    let folder = folder();
    let path = folder.path().join("millstream.toml");
    fs::write(&path, MINIMAL).unwrap();
    let config = ServerConfig::read(&path).unwrap();
    assert_eq!(config.log_level(), LogLevel::Info);
    let config = config.check().unwrap();
    assert_eq!(config.data_dir, folder.path().join("data"));
    assert_eq!(config.transport, TransportConfig::server());
}

#[test]
fn the_printed_file_holds_every_setting_at_its_default() {
    let file: ConfigFile = toml::from_str(DEFAULT_CONFIG).unwrap();
    assert_eq!(
        file.transport.validate().unwrap(),
        TransportConfig::server()
    );
    assert_eq!(
        (file.log_level, file.tail_cache_bytes),
        (default_log_level(), default_tail_cache_bytes())
    );
    let identity = Authority::create("test")
        .unwrap()
        .issue(Role::Server, "s", &["localhost"])
        .unwrap();
    let usual = BrokerConfig::new("data", file.listen, identity.identity().unwrap());
    assert_eq!(file.tail_cache_bytes, usual.tail_cache_bytes);

    let printed: toml::Table = toml::from_str(DEFAULT_CONFIG).unwrap();
    let every = toml::Table::try_from(TransportSection::default()).unwrap();
    assert_eq!(printed["transport"].as_table().unwrap(), &every);
}

#[test]
fn what_is_wrong_is_named() {
    insta::assert_snapshot!(fault(&format!("lisen = 1\n{MINIMAL}")), @r"
    the configuration file /etc/millstream/millstream.toml cannot be used: TOML parse error at line 1, column 1
      |
    1 | lisen = 1
      | ^^^^^
    unknown field `lisen`, expected one of `listen`, `data_dir`, `log_level`, `tail_cache_bytes`, `identity`, `cluster`, `workers`, `transport`
    ");
    insta::assert_snapshot!(fault(&MINIMAL.replace("127.0.0.1:0", "localhost")), @r#"
    the configuration file /etc/millstream/millstream.toml cannot be used: TOML parse error at line 2, column 10
      |
    2 | listen = "localhost"
      |          ^^^^^^^^^^^
    invalid socket address syntax
    "#);
    insta::assert_snapshot!(fault(&MINIMAL.replace("\"server.", "\"client.")), @"the configuration file /etc/millstream/millstream.toml cannot be used: [identity] is millstream://client/client, which may not accept connections");
    insta::assert_snapshot!(fault(&MINIMAL.replace("ca.pem", "none.pem")), @"the configuration file /etc/millstream/millstream.toml cannot be used: cannot read /etc/millstream/none.pem: No such file or directory (os error 2)");
    insta::assert_snapshot!(fault(&format!("{MINIMAL}[workers]\nthreads = 0\n")), @"the configuration file /etc/millstream/millstream.toml cannot be used: [workers] threads is not between 1 and 1024");
    insta::assert_snapshot!(fault(&format!("{MINIMAL}[transport]\nmtu_upper_bound = 9000\n")), @"the configuration file /etc/millstream/millstream.toml cannot be used: [transport]: mtu_upper_bound of 9000 bytes is not between 1200 and 6549: ten datagrams leave together, and more than 65507 bytes at once are lost without an error");
    insta::assert_snapshot!(fault(&format!("{MINIMAL}[transport]\nmtu = 1400\n")), @r"
    the configuration file /etc/millstream/millstream.toml cannot be used: TOML parse error at line 9, column 1
      |
    9 | mtu = 1400
      | ^^^
    unknown field `mtu`, expected one of `mtu_upper_bound`, `socket_buffer_bytes`, `stream_receive_window_bytes`, `connection_receive_window_bytes`, `send_window_bytes`, `keep_alive_interval_ms`, `max_idle_timeout_ms`, `connect_timeout_ms`, `max_streams`, `max_incoming`, `retry_above_handshakes`, `max_connections`
    ");
}

const TICKET: &str = r#"
cluster_id = "0189dcd0-11aa-7000-8000-000000000001"
broker_id = 2
token = "secret"
[brokers]
1 = "one.example:9092"
"#;

#[test]
fn a_broker_may_be_one_of_a_cluster() {
    let folder = folder();
    let path = folder.path().join("millstream.toml");
    fs::write(folder.path().join("ticket.toml"), TICKET).unwrap();
    let section = "[cluster]\nticket = \"ticket.toml\"\nadvertise = \"two.example:77\"\nrack = \"a\"\n\
         catch_up_bytes_per_second = 50000000\n";
    fs::write(&path, format!("{MINIMAL}{section}")).unwrap();
    let config = ServerConfig::read(&path).unwrap().check().unwrap();
    let ticket = config.ticket.unwrap();
    assert_eq!((ticket.broker_id, ticket.token.as_str()), (2, "secret"));
    assert_eq!(config.advertise.as_deref(), Some("two.example:77"));
    assert_eq!(config.rack.as_deref(), Some("a"));
    let catch_up = config.catch_up_bytes_per_second;
    assert_eq!(catch_up.map(NonZeroU64::get), Some(50_000_000));
    let alone: ConfigFile = toml::from_str(MINIMAL).unwrap();
    let alone = alone.check(folder.path()).unwrap();
    assert!(alone.ticket.is_none() && alone.advertise.is_none() && alone.rack.is_none());
}

#[test]
fn what_is_wrong_about_the_cluster_is_named() {
    let cluster = |section: &str| fault(&format!("{MINIMAL}[cluster]\n{section}\n"));
    insta::assert_snapshot!(cluster("rak = 1"), @r"
    the configuration file /etc/millstream/millstream.toml cannot be used: TOML parse error at line 9, column 1
      |
    9 | rak = 1
      | ^^^
    unknown field `rak`, expected one of `ticket`, `advertise`, `rack`, `catch_up_bytes_per_second`
    ");
    insta::assert_snapshot!(cluster("ticket = \"none.toml\""), @"the configuration file /etc/millstream/millstream.toml cannot be used: cannot read the ticket /etc/millstream/none.toml: No such file or directory (os error 2)");
    // Nothing of it is shown: it may be a ticket that is cut short.
    insta::assert_snapshot!(cluster("ticket = \"server.key\""), @"the configuration file /etc/millstream/millstream.toml cannot be used: /etc/millstream/server.key is not a broker's ticket: key with no value, expected `=`");
    insta::assert_snapshot!(cluster("catch_up_bytes_per_second = 1000"), @"the configuration file /etc/millstream/millstream.toml cannot be used: [cluster] catch_up_bytes_per_second is less than 1048576, which a follower is sent at once");
    insta::assert_snapshot!(cluster("advertise = \"quic://two\""), @r#"the configuration file /etc/millstream/millstream.toml cannot be used: [cluster] advertise: "quic://two" is not an address of the form host:port"#);
    insta::assert_snapshot!(cluster("advertise = \"two.example:0\""), @"the configuration file /etc/millstream/millstream.toml cannot be used: [cluster] advertise: port 0 is none where a broker can be reached");
    insta::assert_snapshot!(cluster(&format!("rack = \"{}\"", "x".repeat(256))), @"the configuration file /etc/millstream/millstream.toml cannot be used: [cluster] rack: expected a name of 1 to 255 bytes, without control characters");
}
