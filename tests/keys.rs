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
fn a_key_comes_from_text_and_from_bytes_by_the_usual_traits() {
    let key: Key = HEX.parse().expect("a key");
    assert_eq!(key, Key::from_hex(HEX).expect("a key"));
    assert!("secret".parse::<Key>().is_err());
    let bytes = [7; 32];
    assert_eq!(Key::from(bytes), Key::from_bytes(bytes));
    assert_eq!(Key::try_from(&bytes[..]).expect("a key"), Key::from_bytes(bytes));
    for wrong in [&bytes[1..], &[7; 33], &[], HEX.as_bytes()] {
        let error = Key::try_from(wrong).expect_err("no key");
        assert!(matches!(error, Error::InvalidKey { length, .. } if length == wrong.len()), "{error:?}");
    }
}

#[test]
fn anything_else_is_no_key_and_is_not_repeated_in_the_error() {
    let texts =
        ["", "secret", &HEX[1..], &format!("{HEX}0"), &HEX.replace('9', "g"), &format!(" {}", &HEX[1..])];
    for text in texts {
        let error = Key::from_hex(text).expect_err("no key");
        assert!(matches!(error, Error::InvalidKey { length, .. } if length == text.len()), "{error:?}");
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

/// What the error of loading this says, checked to repeat nothing of it.
fn complaint(name: &str, text: &[u8]) -> String {
    let place = Place::with(name, text);
    let error = Key::load(&place.0).expect_err("no key");
    assert!(matches!(&error, Error::KeyFile { path, .. } if *path == place.0), "{error:?}");
    let told = format!("{error} {error:?}");
    let text = String::from_utf8_lossy(text);
    for part in text.split_whitespace().filter(|part| part.len() > 11) {
        assert!(!told.contains(part), "{told}");
    }
    error.to_string()
}

#[test]
fn the_error_names_what_a_file_looks_like() {
    let utf16 = |order: fn(u16) -> [u8; 2]| {
        let units = std::iter::once(0xFEFF).chain(HEX.encode_utf16());
        units.flat_map(order).collect::<Vec<_>>()
    };
    let base64 = "nODQXMMZs3C/OOaTdnEunu1ws2mkEFz5WEfRV8KK1SE=";
    let cases: [(&str, Vec<u8>, &str); 17] = [
        ("nothing", vec![], "empty"),
        ("blank", b" \n\n".to_vec(), "empty"),
        ("raw", vec![0x9C; 32], "raw key of 32 bytes"),
        ("raw-with-mark", [&[0xEF, 0xBB, 0xBF][..], &[0x9C; 29]].concat(), "raw key of 32 bytes"),
        ("half", HEX[..32].into(), "16 bytes"),
        ("utf8-mark", format!("\u{FEFF}{HEX}\n").into(), "byte order mark of UTF-8"),
        ("utf16-le", utf16(u16::to_le_bytes), "byte order mark of UTF-16"),
        ("utf16-be", utf16(u16::to_be_bytes), "byte order mark of UTF-16"),
        ("base64", format!("{base64}\n").into(), "base64"),
        ("base64-bare", base64.trim_end_matches('=').into(), "base64"),
        ("pem", format!("-----BEGIN PRIVATE KEY-----\n{}\n", HEX.repeat(9)).into(), "PEM"),
        ("prefixed", format!("0x{HEX}").into(), "0x"),
        ("short", HEX[..63].into(), "63 hexadecimal digits"),
        ("folded", format!("{}\n{}\n", &HEX[..60], &HEX[60..]).into(), "on one line"),
        ("behind", format!("{HEX}{}{HEX}\n", " ".repeat(192)).into(), "longer than 256 bytes"),
        ("blank-behind", format!("{HEX}{}", " ".repeat(193)).into(), "longer than 256 bytes"),
        ("words", b"correct-horse-battery-staple".to_vec(), "28 bytes"),
    ];
    for (name, text, expected) in cases {
        let told = complaint(name, &text);
        assert!(told.contains(expected), "{name}: {told}");
        assert!(!told.contains("chmod"), "{name}: {told}");
    }
    let longest = Place::with("longest", format!("{HEX}{}", " ".repeat(192)).as_bytes());
    Key::load(&longest.0).expect("white space is ignored");
}

#[test]
fn the_error_of_a_text_that_is_no_key_names_what_its_length_looks_like() {
    for (text, expected) in [
        ("s".repeat(32), "Key::from_bytes"),
        ("s".repeat(44), "base64"),
        (format!("{HEX}\n"), "line break"),
        (format!("0x{HEX}"), "0x"),
        ("g".repeat(64), "not all digits"),
    ] {
        let told = Key::from_hex(&text).expect_err("no key").to_string();
        assert!(told.contains(expected) && !told.contains(&text), "{told}");
    }
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    let directory = Key::load(std::env::temp_dir()).expect_err("a directory").to_string();
    assert!(directory.contains("directory") && !directory.contains("chmod"), "{directory}");
    let device = Key::load("/dev/null").expect_err("a device").to_string();
    assert!(device.contains("no regular file") && !device.contains("chmod"), "{device}");

    let pipe = Place::new("pipe");
    assert!(Command::new("mkfifo").arg("-m600").arg(&pipe.0).status().expect("mkfifo runs").success());
    let (told, is_told) = std::sync::mpsc::channel();
    let path = pipe.0.clone();
    std::thread::spawn(move || told.send(Key::load(path).map(drop)));
    let outcome =
        is_told.recv_timeout(std::time::Duration::from_secs(30)).expect("nobody waits for a writer");
    assert!(outcome.expect_err("a pipe").to_string().contains("no regular file"));

    // Secrets are mounted as links to links.
    let (place, link) = (Place::with("linked", HEX.as_bytes()), Place::new("link"));
    symlink(&place.0, &link.0).expect("linking");
    assert_eq!(Key::load(&link.0).expect("loading"), Key::from_hex(HEX).expect("a key"));
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
