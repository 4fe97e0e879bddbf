//! Where objects go that do not fit: files in a directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use raybolt_core::calls::objects::FileId;

/// What can keep spilled objects. An error of `write` must leave nothing behind.
pub trait Disk: Send + Sync {
    /// Writes a new file of these parts, one after the other.
    ///
    /// # Errors
    /// Whatever the disk says; the objects then stay in memory.
    fn write(&self, file: FileId, parts: &[&[u8]]) -> io::Result<()>;

    /// Reads a part of a file.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn read(&self, file: FileId, offset: u64, part: &mut [u8]) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, file: FileId);

    /// Where it is, for people.
    fn place(&self) -> String;
}

/// How many parts one system call writes at most: what Linux takes.
const PARTS_MAX: usize = 1024;

/// Files in a directory. They are readable for their user only, and go with this value.
#[derive(Debug)]
pub struct SpillDir {
    path: PathBuf,
    /// What tells its files from those of another store that was given the same directory.
    prefix: String,
}

impl SpillDir {
    /// Uses `path`, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(SpillDir { path: path.into(), prefix: format!("spill-{}-", std::process::id()) })
    }

    fn file(&self, file: FileId) -> PathBuf {
        self.path.join(format!("{}{}", self.prefix, file.0))
    }
}

impl Disk for SpillDir {
    fn write(&self, file: FileId, parts: &[&[u8]]) -> io::Result<()> {
        let path = self.file(file);
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let outcome = write_parts(new, parts);
        if outcome.is_err() {
            self.remove(file);
        }
        outcome
    }

    fn read(&self, file: FileId, offset: u64, part: &mut [u8]) -> io::Result<()> {
        File::open(self.file(file))?.read_exact_at(part, offset)
    }

    fn remove(&self, file: FileId) {
        // What cannot be removed now goes with the session's directory.
        drop(std::fs::remove_file(self.file(file)));
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

impl Drop for SpillDir {
    fn drop(&mut self) {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return };
        let is_ours = |name: &std::ffi::OsStr| {
            name.to_str().is_some_and(|name| name.starts_with(&self.prefix))
        };
        for entry in entries.flatten().filter(|entry| is_ours(&entry.file_name())) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

fn write_parts(mut file: File, parts: &[&[u8]]) -> io::Result<()> {
    for parts in parts.chunks(PARTS_MAX) {
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match file.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
