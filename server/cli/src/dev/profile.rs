//! The development broker's profile in the place where clients look for one.

use std::io;
use std::path::{Path, PathBuf};

use millstream_transport::Profile;
use millstream_transport::profile::{PROFILE_VARIABLE, ProfileError};

use super::identity::{Files, is_dev_folder};

/// Which profile may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overwrite {
    /// One that a development broker has written.
    OwnKind,
    /// Any.
    Any,
}

/// What became of the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// Clients find it by themselves.
    Written(PathBuf),
    /// The same; until now they found another development broker, at this address.
    Replaced { path: PathBuf, address: String },
    /// There is another one, which was left alone.
    OtherKept(PathBuf),
    /// There is no home directory.
    NoPlace,
}

/// Writes the profile to `path`, unless there is one that is not to be replaced.
pub(super) fn place(
    profile: &Profile,
    path: Option<PathBuf>,
    overwrite: Overwrite,
) -> Result<Placement, ProfileError> {
    let Some(path) = path else {
        return Ok(Placement::NoPlace);
    };
    if overwrite == Overwrite::OwnKind && !may_be_replaced(&path, profile) {
        return Ok(Placement::OtherKept(path));
    }
    let before = Profile::load(&path).ok();
    profile.save(&path)?;
    Ok(match before {
        Some(before) if before.ca != profile.ca && before.ca.exists() => Placement::Replaced {
            path,
            address: before.addresses.join(", "),
        },
        _ => Placement::Written(path),
    })
}

/// May what lies at `path` be replaced: nothing, or the profile of a development broker, be it this
/// one, another one or one whose data is gone? Not the one that lies with another one's data.
fn may_be_replaced(path: &Path, profile: &Profile) -> bool {
    match Profile::load(path) {
        Ok(existing) if lies_with_its_data(path, &existing) => existing.ca == profile.ca,
        Ok(existing) => is_dev_profile(&existing),
        Err(ProfileError::Read { source, .. }) => source.kind() == io::ErrorKind::NotFound,
        Err(_) => false,
    }
}

/// A broker's own profile lies in its data directory, beside the folder of its identities.
fn lies_with_its_data(path: &Path, profile: &Profile) -> bool {
    let data_dir = profile.ca.parent().and_then(Path::parent);
    data_dir.is_some() && data_dir == path.parent()
}

/// A development profile's files lie in one folder under the names that [`Files`] gives them, beside
/// the authority's key, which no other client has.
fn is_dev_profile(profile: &Profile) -> bool {
    let Some(folder) = profile.certificate.parent() else {
        return false;
    };
    let files = Files::of(folder);
    profile.certificate == files.client_certificate
        && profile.key == files.client_key
        && profile.ca == files.authority
        && is_dev_folder(folder)
}

impl Placement {
    /// What a person is told, where `own` is the profile in the data directory.
    pub(super) fn text(&self, own: &Path) -> String {
        let own = own.display();
        match self {
            Self::Written(path) => format!(
                "  profile: {} (clients find it by themselves)",
                path.display()
            ),
            Self::Replaced { path, address } => format!(
                "  profile: {} (clients find it by themselves)\n  note: until now it led to the broker at {address}; \
                 to use that one,\n    export {PROFILE_VARIABLE} with the profile.toml in its data directory",
                path.display()
            ),
            Self::OtherKept(path) => format!(
                "  profile: {own}\n  note: {} is of another cluster and was left alone; to use this broker,\n    \
                 export {PROFILE_VARIABLE}={own}\n  or replace it with `--force-profile`",
                path.display()
            ),
            Self::NoPlace => format!("  profile: {own}\n    export {PROFILE_VARIABLE}={own}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::dev::identity::DevIdentity;

    fn profile_in(folder: &Path) -> Profile {
        let files = Files::of(folder);
        Profile {
            addresses: vec!["127.0.0.1:1".to_owned()],
            server_name: "localhost".to_owned(),
            ca: files.authority,
            certificate: files.client_certificate,
            key: files.client_key,
        }
    }

    #[test]
    fn development_profiles_replace_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let place_at = folder.path().join("config/profile.toml");
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        DevIdentity::prepare(&one).unwrap();
        DevIdentity::prepare(&two).unwrap();
        let replaced = Placement::Replaced {
            path: place_at.clone(),
            address: profile_in(&one).addresses.concat(),
        };
        for (identity, expected) in [
            (&one, Placement::Written(place_at.clone())),
            (&one, Placement::Written(place_at.clone())),
            (&two, replaced.clone()),
            (&one, replaced.clone()),
        ] {
            let placement = place(
                &profile_in(identity),
                Some(place_at.clone()),
                Overwrite::OwnKind,
            )
            .unwrap();
            assert_eq!(placement, expected);
            assert_eq!(Profile::load(&place_at).unwrap(), profile_in(identity));
        }
        // The one that lies with its data is left to it.
        let own = folder.path().join("profile.toml");
        for (identity, expected) in [
            (&one, Placement::Written(own.clone())),
            (&one, Placement::Written(own.clone())),
        ] {
            let placement = place(&profile_in(identity), Some(own.clone()), Overwrite::OwnKind);
            assert_eq!(placement.unwrap(), expected);
        }
        let elsewhere = tempfile::tempdir().unwrap();
        let third = elsewhere.path().join("identity");
        DevIdentity::prepare(&third).unwrap();
        let placement = place(&profile_in(&third), Some(own.clone()), Overwrite::OwnKind);
        assert_eq!(placement.unwrap(), Placement::OtherKept(own.clone()));
        assert_eq!(Profile::load(&own).unwrap(), profile_in(&one));
        // Its data is gone: it leads nowhere.
        fs::remove_dir_all(&one).unwrap();
        let placement = place(
            &profile_in(&two),
            Some(place_at.clone()),
            Overwrite::OwnKind,
        )
        .unwrap();
        assert_eq!(placement, Placement::Written(place_at));
    }

    #[test]
    fn other_profiles_are_left_alone_unless_forced() {
        let folder = tempfile::tempdir().unwrap();
        let place_at = folder.path().join("profile.toml");
        let theirs = folder.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        let other = Profile {
            addresses: vec!["broker.example:9092".to_owned()],
            ..profile_in(&theirs)
        };
        let mine = profile_in(&folder.path().join("mine"));
        for existing in ["not a profile", ""] {
            fs::write(&place_at, existing).unwrap();
            let placement = place(&mine, Some(place_at.clone()), Overwrite::OwnKind).unwrap();
            assert_eq!(placement, Placement::OtherKept(place_at.clone()));
        }
        other.save(&place_at).unwrap();
        let placement = place(&mine, Some(place_at.clone()), Overwrite::OwnKind).unwrap();
        assert_eq!(placement, Placement::OtherKept(place_at.clone()));
        assert_eq!(Profile::load(&place_at).unwrap(), other);

        place(&mine, Some(place_at.clone()), Overwrite::Any).unwrap();
        assert_eq!(Profile::load(&place_at).unwrap(), mine);
    }

    #[test]
    fn people_are_told_how_to_use_the_broker() {
        let own = Path::new("/data/profile.toml");
        let all = [
            Placement::Written("/home/a/.config/millstream/profile.toml".into()),
            Placement::Replaced {
                path: "/home/a/.config/millstream/profile.toml".into(),
                address: "127.0.0.1:9092".to_owned(),
            },
            Placement::OtherKept("/home/a/.config/millstream/profile.toml".into()),
            Placement::NoPlace,
        ];
        let text: Vec<_> = all.iter().map(|placement| placement.text(own)).collect();
        insta::assert_snapshot!(text.join("\n--\n"), @r"
          profile: /home/a/.config/millstream/profile.toml (clients find it by themselves)
        --
          profile: /home/a/.config/millstream/profile.toml (clients find it by themselves)
          note: until now it led to the broker at 127.0.0.1:9092; to use that one,
            export MILLSTREAM_PROFILE with the profile.toml in its data directory
        --
          profile: /data/profile.toml
          note: /home/a/.config/millstream/profile.toml is of another cluster and was left alone; to use this broker,
            export MILLSTREAM_PROFILE=/data/profile.toml
          or replace it with `--force-profile`
        --
          profile: /data/profile.toml
            export MILLSTREAM_PROFILE=/data/profile.toml
        ");
    }
}
