//! The secret of a session: who has it belongs to the session.
//!
//! It is 32 random bytes, made once per session and kept in a file of the session's directory, as 64
//! hexadecimal digits and a line end. It is never sent; [`handshake`](crate::handshake) shows how it is
//! proved without that.
//!
//! # Invariants
//! - **SECRET-1 (readable by one).** The file is created with mode 0600, and only if it is not there; a
//!   file that others may read, or that belongs to another user, is not read but refused.
//! - **SECRET-2 (never shown).** No `Debug`, error or panic prints it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit};
use rustix::fs::OFlags;
use sha2::Sha256;

/// How many bytes a secret has.
pub const SECRET_BYTES: usize = 32;

/// The digits and the line end.
const FILE_BYTES: usize = 2 * SECRET_BYTES + 1;

/// What the members of one session know and strangers do not.
#[derive(Clone)]
pub struct Secret([u8; SECRET_BYTES]);

/// Why there is no secret to be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be made or opened.
    #[error("the session's secret `{}` cannot be {what}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// Others than its owner may read or change the file.
    #[error(
        "the session's secret `{}` is open to others (mode {mode:04o}); end the session if someone may have \
         read it, else `chmod 600 {}`",
        path.display(), path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode bits.
        mode: u32,
    },
    /// The file was made by someone else.
    #[error("the session's secret `{}` belongs to user {owner}, this process to user {us}", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        us: u32,
    },
    /// The file holds something else.
    #[error("`{}` is no secret of a session: 64 hexadecimal digits were expected", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// The system has no random bytes.
    #[error("the system gives no random bytes: {0}")]
    NoRandom(#[from] getrandom::Error),
}

impl Secret {
    /// A secret of given bytes.
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Secret(bytes)
    }

    /// A new secret that nobody else knows.
    pub fn random() -> Result<Self, getrandom::Error> {
        random_bytes().map(Secret)
    }

    /// A new secret, and the file that holds it; there must not be one yet (SECRET-1).
    pub fn create_file(path: &Path) -> Result<Self, SecretError> {
        let secret = Secret::random()?;
        let error = |what| move |cause| SecretError::File { path: path.into(), what, cause };
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(error("created"))?;
        let mut text: String = secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push('\n');
        file.write_all(text.as_bytes()).map_err(error("written"))?;
        Ok(secret)
    }

    /// The secret in a file that only this user can read.
    pub fn read_file(path: &Path) -> Result<Self, SecretError> {
        let error = |cause| SecretError::File { path: path.into(), what: "read", cause };
        // Neither through a link to somewhere else, nor waiting for the other end of a pipe.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.cast_signed())
            .open(path)
            .map_err(error)?;
        check_private(&file, path)?;
        let mut text = Vec::with_capacity(FILE_BYTES + 1);
        file.take(FILE_BYTES as u64 + 1).read_to_end(&mut text).map_err(error)?;
        parse(&text).map(Secret).ok_or_else(|| SecretError::Malformed { path: path.into() })
    }

    /// The beginning of a proof that its maker knows this secret.
    pub(crate) fn prove(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0).expect("a key may have any length")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Random bytes from the system.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// SECRET-1. Asks the open file, so that it cannot be exchanged in between.
fn check_private(file: &File, path: &Path) -> Result<(), SecretError> {
    let error = |cause| SecretError::File { path: path.into(), what: "read", cause };
    let metadata = file.metadata().map_err(error)?;
    let us = rustix::process::geteuid().as_raw();
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() {
        Err(SecretError::Malformed { path: path.into() })
    } else if metadata.uid() != us {
        Err(SecretError::Foreign { path: path.into(), owner: metadata.uid(), us })
    } else if mode & 0o077 != 0 {
        Err(SecretError::Exposed { path: path.into(), mode })
    } else {
        Ok(())
    }
}

fn parse(text: &[u8]) -> Option<[u8; SECRET_BYTES]> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    if digits.len() != 2 * SECRET_BYTES {
        return None;
    }
    let mut bytes = [0; SECRET_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder of this test's own that goes with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("raybolt-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("secret")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_created_is_read_back_and_only_its_owner_can() {
        let folder = Folder::new("secret-round");
        let made = Secret::create_file(&folder.file()).unwrap();
        let read = Secret::read_file(&folder.file()).unwrap();
        assert_eq!(made.0, read.0);
        let mode = std::fs::metadata(folder.file()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_secret_that_is_there_is_not_replaced() {
        let folder = Folder::new("secret-twice");
        let first = Secret::create_file(&folder.file()).unwrap();
        let text = Secret::create_file(&folder.file()).unwrap_err().to_string();
        assert!(text.ends_with("cannot be created: File exists (os error 17)"), "{text}");
        assert_eq!(Secret::read_file(&folder.file()).unwrap().0, first.0);
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_and_the_lever_is_named() {
        let folder = Folder::new("secret-open");
        Secret::create_file(&folder.file()).unwrap();
        std::fs::set_permissions(folder.file(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let text = Secret::read_file(&folder.file()).unwrap_err().to_string();
        let path = folder.file();
        assert!(text.contains("is open to others (mode 0640)"), "{text}");
        assert!(text.ends_with(&format!("`chmod 600 {}`", path.display())), "{text}");
    }

    #[test]
    fn a_file_of_something_else_is_no_secret() {
        let folder = Folder::new("secret-else");
        let secret = Secret::create_file(&folder.file()).unwrap();
        let right: String = secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
        for wrong in ["", "abc", &right[1..], &format!("{right}00"), &right.replace(|_| true, "g")]
        {
            std::fs::write(folder.file(), wrong).unwrap();
            let error = Secret::read_file(&folder.file()).unwrap_err();
            assert!(matches!(error, SecretError::Malformed { .. }), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::from_bytes([0xab; SECRET_BYTES]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
