//! Keys: their texts, their files, and what they do not show.

use std::fs;
use std::path::PathBuf;

use falcotcp_sync::{Error, Key};

const HEX: &str = "9ce0d05cc319b370bf38e69376712e9ed4f069a4105cf95847d157c28ad521c4";

/// A path that nothing stands at, and that is cleared afterwards.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("falcotcp-sync-{}-{name}.key", std::process::id()));
        let _ = fs::remove_file(&path);
        Self(path)
    }

    fn with(name: &str, text: &[u8]) -> Self {
        let place = Self::new(name);
        fs::write(&place.0, text).expect("writing");
        #[cfg(unix)]
        place.set_mode(0o600);
        place
    }

    #[cfg(unix)]
    fn set_mode(&self, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).expect("setting the mode");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn hexadecimal_digits_of_either_case_are_a_key() {
    let key = Key::from_hex(HEX).expect("a key");
    assert_eq!(Key::from_hex(&HEX.to_uppercase()).expect("a key"), key);
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(HEX.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).expect("text"), 16).expect("digits");
    }
    assert_eq!(Key::from_bytes(bytes), key);
}

#[test]
fn anything_else_is_no_key_and_is_not_repeated_in_the_error() {
    let texts =
        ["", "secret", &HEX[1..], &format!("{HEX}0"), &HEX.replace('9', "g"), &format!(" {}", &HEX[1..])];
    for text in texts {
        let error = Key::from_hex(text).expect_err("no key");
        assert!(matches!(error, Error::InvalidKey { length } if length == text.len()), "{error:?}");
        assert!(text.is_empty() || !format!("{error} {error:?}").contains(text));
    }
}

#[test]
fn keys_are_equal_only_when_every_bit_is() {
    let key = Key::from_bytes([0; 32]);
    assert_eq!(key, key.clone());
    for bit in 0..256 {
        let mut bytes = [0; 32];
        bytes[bit / 8] = 1 << (bit % 8);
        assert_ne!(key, Key::from_bytes(bytes));
    }
}

#[test]
fn generated_keys_differ() {
    assert_ne!(Key::generate().expect("a key"), Key::generate().expect("a key"));
}

#[test]
fn debug_shows_nothing_of_a_key() {
    assert_eq!(format!("{:?}", Key::from_hex(HEX).expect("a key")), "Key(..)");
}

#[test]
fn a_saved_key_is_loaded_again() {
    let place = Place::new("saved");
    let key = Key::generate().expect("a key");
    key.save(&place.0).expect("saving");
    assert_eq!(Key::load(&place.0).expect("loading"), key);
    assert_eq!(fs::read(&place.0).expect("reading").len(), 65);
}

#[test]
fn saving_never_overwrites() {
    let place = Place::with("taken", b"something dear");
    let error = Key::generate().expect("a key").save(&place.0).expect_err("a file is there");
    assert!(matches!(&error, Error::KeyFile { path, .. } if *path == place.0), "{error:?}");
    assert_eq!(fs::read(&place.0).expect("reading"), b"something dear");
}

#[test]
fn white_space_around_the_digits_of_a_file_is_ignored() {
    let place = Place::with("spaced", format!("  {HEX}\r\n\n").as_bytes());
    assert_eq!(Key::load(&place.0).expect("loading"), Key::from_hex(HEX).expect("a key"));
}

#[test]
fn files_that_hold_something_else_are_errors() {
    for (name, text) in [("empty", vec![]), ("binary", vec![0xFF; 32]), ("long", vec![b'0'; 100_000])] {
        let place = Place::with(name, &text);
        let error = Key::load(&place.0).expect_err("no key");
        assert!(matches!(error, Error::KeyFile { .. }), "{name}: {error:?}");
    }
    let nowhere = Place::new("nowhere");
    assert!(matches!(Key::load(&nowhere.0), Err(Error::KeyFile { .. })));
    assert!(matches!(Key::load(std::env::temp_dir()), Err(Error::KeyFile { .. })));
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_refused_with_the_mend() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("shared");
    Key::generate().expect("a key").save(&place.0).expect("saving");
    let mode = fs::metadata(&place.0).expect("its mode").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        place.set_mode(mode);
        let error = Key::load(&place.0).expect_err("others have access").to_string();
        assert!(error.contains(&format!("chmod 600 {}", place.0.display())), "{error}");
    }
    place.set_mode(0o400);
    Key::load(&place.0).expect("only the owner reads it");
}
