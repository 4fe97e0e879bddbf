//! Where objects go that do not fit: files in a directory.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raybolt_core::calls::objects::FileId;

/// What can keep spilled objects. An error of `write` must leave nothing behind.
pub trait Disk: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe {
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

/// Files in a directory that lose their names as soon as they are made: they are their maker's alone, and
/// go with it, whatever it dies of.
#[derive(Debug)]
pub struct SpillDir {
    path: PathBuf,
    /// What tells its files from those of another store that was given the same directory.
    prefix: String,
    files: Mutex<HashMap<FileId, Arc<Spilled>>>,
}

#[derive(Debug)]
struct Spilled {
    file: File,
    /// Of each part: where it ends, and its sum.
    sums: Vec<(u64, u64)>,
}

impl SpillDir {
    /// Uses `path`, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(path: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let prefix = format!("raybolt-spill-{process}-{number}-");
        Ok(SpillDir { path: path.into(), prefix, files: Mutex::default() })
    }

    fn files(&self) -> MutexGuard<'_, HashMap<FileId, Arc<Spilled>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SpillDir {
    fn write(&self, file: FileId, parts: &[&[u8]]) -> io::Result<()> {
        let path = self.path.join(format!("{}{}", self.prefix, file.0));
        let mut options = OpenOptions::new();
        let mut new = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        write_parts(&mut new, parts)?;
        let mut end = 0;
        let sum_of = |part: &&[u8]| {
            end += part.len() as u64;
            (end, sum(part))
        };
        let sums = parts.iter().map(sum_of).collect();
        self.files().insert(file, Arc::new(Spilled { file: new, sums }));
        Ok(())
    }

    fn read(&self, file: FileId, offset: u64, part: &mut [u8]) -> io::Result<()> {
        let found = self.files().get(&file).cloned();
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        found.file.read_exact_at(part, offset)?;
        let end = offset + part.len() as u64;
        let index = found.sums.binary_search_by_key(&end, |(end, _)| *end);
        // What is read is what was written: whole parts.
        let written = index.ok().map(|index| found.sums[index].1);
        match written {
            Some(written) if written != sum(part) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what was read is not what was written there (its checksum is wrong)",
            )),
            _ => Ok(()),
        }
    }

    fn remove(&self, file: FileId) {
        let removed = self.files().remove(&file);
        drop(removed); // Closing it frees its blocks: not under the lock.
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

/// Tells whether a part has changed on its way.
fn sum(part: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(part)
}

fn write_parts(file: &mut File, parts: &[&[u8]]) -> io::Result<()> {
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
