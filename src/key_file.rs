//! Files that hold a key as text: read, written, and what is wrong with one.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use zeroize::Zeroizing;

/// Digits of a key.
pub(crate) const DIGITS: usize = 64;

/// The longest file that is read: the digits and a lot of white space.
const LONGEST: usize = 256;

/// What the file at `path` holds, if it is a file that only its owner can read.
pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Before it is opened, since opening a pipe waits for its other end; and the file itself, which may be another.
    refuse_other_kinds(&fs::metadata(path)?)?;
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    refuse_other_kinds(&metadata)?;
    refuse_shared_file(&metadata, path)?;
    // On the heap and never grown, so that wiping it leaves no copy behind. One byte more tells that there is more.
    let mut text = Zeroizing::new(vec![0; LONGEST + 1]);
    let mut length = 0;
    while length < text.len() {
        match file.read(&mut text[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    text.truncate(length);
    if length > LONGEST { Err(no_key(&text)) } else { Ok(text) }
}

/// Writes `text` to a new file that only its owner can read and write, or leaves none.
pub(crate) fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    owner_only(&mut options);
    let mut file = options.open(path)?;
    file.write_all(text).and_then(|()| file.sync_all()).inspect_err(|_| {
        // Half a key would be in the way of the next attempt. What went wrong first is what is told.
        let _ = fs::remove_file(path);
    })
}

/// The error for a file that holds `found` instead of a key. It says what that looks like, and nothing of it.
pub(crate) fn no_key(found: &[u8]) -> io::Error {
    let digits = "64 hexadecimal digits";
    let text = found.trim_ascii();
    let length = text.len();
    let are_digits = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
    let looks = if text.is_empty() {
        format!("it is empty; a key file holds {digits}")
    } else if text.starts_with(b"-----BEGIN ") {
        format!("it looks like a PEM file, as of a certificate or an SSH key; a key is {digits}")
    } else if length == DIGITS / 2 && are_digits(text) {
        format!("it holds {length} hexadecimal digits, which are 16 bytes; a key is {digits}")
    } else if found.len() == DIGITS / 2 {
        format!("it looks like a raw key of 32 bytes: write it as {digits}, e.g. with `xxd -p -c 64`")
    } else if found.starts_with(b"\xEF\xBB\xBF") {
        "it begins with a byte order mark of UTF-8: save it as plain ASCII".to_owned()
    } else if found.starts_with(b"\xFF\xFE") || found.starts_with(b"\xFE\xFF") {
        "it begins with a byte order mark of UTF-16: save it as plain ASCII".to_owned()
    } else if found.len() > LONGEST {
        format!("it is longer than {LONGEST} bytes; a key file holds {digits} and nothing else")
    } else if is_base64_of_a_key(text) {
        format!("it looks like base64: write the key as {digits}, e.g. with `base64 -d | xxd -p -c 64`")
    } else if text.starts_with(b"0x") || text.starts_with(b"0X") {
        format!("it begins with 0x: a key is {digits} and nothing else")
    } else if are_digits(text) {
        format!("it holds {length} hexadecimal digits; a key is {digits}")
    } else if text.iter().filter(|byte| byte.is_ascii_hexdigit()).count() == DIGITS && is_separated(text) {
        format!("there is something between its digits: a key is {digits} on one line")
    } else {
        format!("it holds {length} bytes that are no key; a key is {digits}")
    };
    io::Error::new(ErrorKind::InvalidData, looks)
}

/// Whether `text` has the length of 32 bytes in base64, with or without padding.
fn is_base64_of_a_key(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"=").unwrap_or(text);
    text.len() == 43 && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte))
}

/// Whether nothing but separators stands between the digits of `text`.
fn is_separated(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace() || b":-".contains(byte))
}

fn refuse_other_kinds(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        let text = "it is a directory (container runtimes make one where a mounted file is missing)";
        Err(io::Error::new(ErrorKind::IsADirectory, text))
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file but a device, a pipe or a socket"))
    }
}

#[cfg(unix)]
fn refuse_shared_file(metadata: &Metadata, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let mode = metadata.permissions().mode();
    // The owner of this process, where the system tells it.
    let user = std::fs::metadata("/proc/self").ok().map(|process| process.uid());
    if mode & others(metadata.uid(), user) == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        ErrorKind::PermissionDenied,
        format!(
            "others have access to it (mode {:04o}): if it is a key, run `chmod 600 {}`",
            mode & 0o7777,
            path.display()
        ),
    ))
}

/// Which permissions of a file are others'. One that belongs to root may be readable for the group through which another user
/// reads it: so systemd and Kubernetes give secrets to services.
#[cfg(unix)]
fn others(owner: u32, user: Option<u32>) -> u32 {
    if owner == 0 && user.is_some_and(|user| user != 0) { 0o037 } else { 0o077 }
}

#[cfg(not(unix))]
fn refuse_shared_file(_metadata: &Metadata, _path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn owner_only(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn owner_only(_options: &mut OpenOptions) {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_root_may_be_read_by_another_users_group() {
        let is_accepted = |mode, owner, user| mode & others(owner, user) == 0;
        for (mode, owner, user, expected) in [
            (0o440, 0, Some(1000), true),
            (0o640, 0, Some(1000), true),
            (0o660, 0, Some(1000), false),
            (0o444, 0, Some(1000), false),
            (0o640, 1000, Some(1000), false),
            (0o640, 0, Some(0), false),
            (0o640, 0, None, false),
            (0o600, 1000, Some(1000), true),
        ] {
            assert_eq!(is_accepted(mode, owner, user), expected, "{mode:o} of {owner} for {user:?}");
        }
    }
}
