//! Identities and profiles as files.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::authority;
use crate::identity::{
    AUTHORITY_VALIDITY, Authority, CERTIFICATE_VALIDITY, Identity, IdentityError, IssueError,
    MAX_IDENTITY_FILE_BYTES,
};
use crate::profile::{PROFILE_VARIABLE, Profile, ProfileError};
use crate::{Principal, Role};

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    /// A folder with alice's certificate, key and authority.
    fn of_alice() -> Self {
        let files = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let issued = authority().issue(Role::Client, "alice", &[]).unwrap();
        issued
            .save(
                &files.at("alice.pem"),
                &files.at("alice.key"),
                &files.at("ca.pem"),
            )
            .unwrap();
        files
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self) -> Result<Identity, IdentityError> {
        Identity::load(
            &self.at("alice.pem"),
            &self.at("alice.key"),
            &self.at("ca.pem"),
        )
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn an_identity_survives_its_files() {
    let files = Files::of_alice();
    let identity = files.load().unwrap();
    assert_eq!(
        *identity.principal(),
        Principal {
            role: Role::Client,
            name: "alice".into()
        }
    );
    let remaining = identity
        .expires_at()
        .duration_since(SystemTime::now())
        .unwrap();
    assert!(remaining <= CERTIFICATE_VALIDITY && remaining.as_secs() > 700 * 24 * 60 * 60);
    assert!(AUTHORITY_VALIDITY > CERTIFICATE_VALIDITY);
    assert_eq!(
        files.names(),
        ["alice.key", "alice.pem", "ca.pem"],
        "nothing is left over"
    );
    #[cfg(unix)]
    assert_eq!(mode(&files.at("alice.key")), 0o600);
}

#[test]
fn an_authority_survives_its_files() {
    let files = Files {
        directory: tempfile::tempdir().unwrap(),
    };
    let (certificate, key) = (files.at("ca.pem"), files.at("ca.key"));
    // An older file, readable by all, makes way for one that is not.
    fs::write(&key, "old").unwrap();
    let made = authority();
    made.save(&certificate, &key).unwrap();
    #[cfg(unix)]
    assert_eq!(mode(&key), 0o600);

    let loaded = Authority::load(&certificate, &key).unwrap();
    assert_eq!(loaded.certificate_pem(), made.certificate_pem());
    let issued = loaded
        .issue(Role::Broker, "b", &["b.example", "::1"])
        .unwrap();
    assert_eq!(issued.ca_pem, made.certificate_pem());
    assert_eq!(issued.identity().unwrap().principal().role, Role::Broker);
}

#[test]
fn secrets_do_not_show_in_logs() {
    let authority = authority();
    let issued = authority.issue(Role::Client, "alice", &[]).unwrap();
    let identity = issued.identity().unwrap();
    let shown = format!("{authority:?} {issued:?} {identity:?}");
    assert!(
        shown.contains("alice") && !shown.contains("PRIVATE") && shown.len() < 300,
        "{shown}"
    );
}

#[test]
fn only_names_and_hosts_that_can_be_are_issued() {
    let authority = authority();
    let refused = |role, name, hosts: &[&str]| authority.issue(role, name, hosts).unwrap_err();
    assert!(matches!(
        refused(Role::Client, "a b", &[]),
        IssueError::Principal(_)
    ));
    assert_eq!(
        refused(Role::Server, "s", &[]),
        IssueError::NoHost { role: Role::Server }
    );
    assert_eq!(
        refused(Role::Server, "s", &["no host"]),
        IssueError::Host {
            host: "no host".into()
        }
    );
}

#[test]
fn errors_name_the_file() {
    let files = Files::of_alice();
    let error = |name: &str, content: &[u8]| {
        let good = fs::read(files.at(name)).unwrap();
        fs::write(files.at(name), content).unwrap();
        let error = files.load().unwrap_err();
        fs::write(files.at(name), good).unwrap();
        let message = error.to_string();
        assert!(
            message.contains(files.at(name).to_str().unwrap()),
            "{message}"
        );
        message.rsplit('/').next().unwrap().to_owned()
    };
    let other = authority().issue(Role::Client, "bob", &[]).unwrap();
    let begin = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".as_bytes();
    assert_eq!(
        error("alice.pem", b""),
        "alice.pem: holds no PEM certificate"
    );
    assert!(error("alice.pem", begin).starts_with("alice.pem: malformed certificate"));
    assert_eq!(
        error("alice.key", b"nothing"),
        "alice.key: holds no PEM private key"
    );
    let mismatch = "alice.key: not the private key of the certificate";
    assert_eq!(error("alice.key", other.key_pem.as_bytes()), mismatch);
    assert_eq!(error("ca.pem", b""), "ca.pem: holds no PEM certificate");
    let count = "alice.pem: certificate names 0 principals instead of one";
    assert_eq!(error("alice.pem", other.ca_pem.as_bytes()), count);
    assert_eq!(
        error("ca.pem", &vec![b'x'; MAX_IDENTITY_FILE_BYTES as usize + 1]),
        "ca.pem"
    );
    fs::remove_file(files.at("alice.pem")).unwrap();
    let error = files.load().unwrap_err();
    assert!(matches!(&error, IdentityError::Read { path, .. } if *path == files.at("alice.pem")));
}

fn profile(files: &Files) -> Profile {
    Profile {
        addresses: vec!["localhost:9092".into()],
        server_name: "localhost".into(),
        ca: files.at("ca.pem"),
        certificate: files.at("alice.pem"),
        key: files.at("alice.key"),
    }
}

#[test]
fn a_profile_moves_with_its_folder() {
    let files = Files::of_alice();
    let saved = profile(&files);
    saved.save(&files.at("profile.toml")).unwrap();
    assert_eq!(Profile::load(&files.at("profile.toml")).unwrap(), saved);
    assert!(saved.identity().is_ok());
    let text = fs::read_to_string(files.at("profile.toml")).unwrap();
    assert_eq!(
        text,
        "address = \"localhost:9092\"\nserver_name = \"localhost\"\nca = \"ca.pem\"\n\
         certificate = \"alice.pem\"\nkey = \"alice.key\"\n"
    );

    // A profile elsewhere finds them by their full paths.
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("deep").join("profile.toml");
    saved.save(&path).unwrap();
    assert_eq!(Profile::load(&path).unwrap(), saved);
}

#[test]
fn a_profile_may_name_several_brokers() {
    let files = Files::of_alice();
    let mut saved = profile(&files);
    saved.addresses.push("10.0.0.2:1".to_owned());
    let path = files.at("profile.toml");
    saved.save(&path).unwrap();
    assert_eq!(Profile::load(&path).unwrap(), saved);
    let text = fs::read_to_string(path).unwrap();
    assert!(
        text.contains("address = [\"localhost:9092\", \"10.0.0.2:1\"]"),
        "{text}"
    );
}

#[test]
fn bad_profiles_say_what_is_wrong() {
    let files = Files::of_alice();
    let path = files.at("profile.toml");
    let reason = |text: &str| {
        fs::write(&path, text).unwrap();
        match Profile::load(&path).unwrap_err() {
            ProfileError::Invalid { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(reason("address = 5").contains("expected a string"));
    assert!(reason("").contains("missing field"));
    profile(&files).save(&path).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    assert!(reason(&format!("{good}colour = \"red\"\n")).contains("unknown field `colour`"));
    assert!(reason(&good.replace("localhost:9092", "a b")).contains("not an address"));
    let list = |list: &str| good.replace("\"localhost:9092\"", list);
    assert!(reason(&list("[]")).contains("empty"));
    assert!(reason(&list("[\"fine:1\", \"a b\"]")).contains("not an address"));
    assert!(reason(&list("[1]")).contains("expected a string"));
}

/// Discovers a profile in an environment that is a table.
fn discover(environment: &[(&str, &Path)]) -> Result<Profile, ProfileError> {
    let table: HashMap<String, OsString> = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.as_os_str().to_owned()))
        .collect();
    Profile::discover_in(|variable| table.get(variable).cloned())
}

#[test]
fn profiles_are_found_in_the_users_places_in_order() {
    let files = Files::of_alice();
    let place = |name: &str, address: &str| {
        let path = files.at(name);
        Profile {
            addresses: vec![address.into()],
            ..profile(&files)
        }
        .save(&path)
        .unwrap();
        path
    };
    let explicit = place("mine.toml", "explicit:1");
    place("xdg/millstream/profile.toml", "xdg:1");
    place("home/.config/millstream/profile.toml", "home:1");
    let (xdg, home, empty) = (files.at("xdg"), files.at("home"), files.at("empty"));
    let address = |environment: &[(&str, &Path)]| discover(environment).unwrap().addresses.concat();
    let all: [(&str, &Path); 3] = [
        (PROFILE_VARIABLE, &explicit),
        ("XDG_CONFIG_HOME", &xdg),
        ("HOME", &home),
    ];
    assert_eq!(address(&all), "explicit:1");
    assert_eq!(address(&all[1..]), "xdg:1");
    assert_eq!(address(&all[2..]), "home:1");
    assert_eq!(
        address(&[("XDG_CONFIG_HOME", &empty), ("HOME", &home)]),
        "home:1"
    );
    let unset = Path::new("");
    assert_eq!(
        address(&[(PROFILE_VARIABLE, unset), ("HOME", &home)]),
        "home:1"
    );

    // A file that is named but not there is an error, not a reason to look elsewhere.
    let error = discover(&[(PROFILE_VARIABLE, &empty), ("HOME", &home)]).unwrap_err();
    assert!(
        matches!(&error, ProfileError::Read { path, .. } if *path == empty),
        "{error:?}"
    );

    let message = discover(&[("HOME", &empty)]).unwrap_err().to_string();
    let expected = format!(
        "no client profile: $MILLSTREAM_PROFILE is not set and there is no \
         {}/.config/millstream/profile.toml; `millstream dev` writes one, or set \
         $MILLSTREAM_PROFILE to yours",
        empty.display()
    );
    assert_eq!(message, expected);
    let message = discover(&[]).unwrap_err().to_string();
    assert!(message.contains("there is no home directory"), "{message}");
}

#[test]
fn new_profiles_go_where_they_are_found() {
    let home = Path::new("/home/alice");
    let in_home = Profile::default_path_in(|name| (name == "HOME").then(|| home.into()));
    assert_eq!(in_home, Some(home.join(".config/millstream/profile.toml")));
    let explicit =
        Profile::default_path_in(|name| (name == PROFILE_VARIABLE).then(|| "/etc/p.toml".into()));
    assert_eq!(explicit, Some("/etc/p.toml".into()));
    assert_eq!(Profile::default_path_in(|_| None), None);
}
