//! Reads data in SNAP's format, plain or compressed with gzip.
//!
//! | file | line | means |
//! |---|---|---|
//! | follows | `12 13` | user 12 follows user 13 |
//! | | `# anything` | a comment |
//! | tweets | `#FF<TAB>12 13 14` | users 12, 13 and 14 tweeted the key `#FF` |
//!
//! A tweets file has no comments, since keys may begin with `#`. Lines with nothing in them are
//! passed over in both.
//!
//! # Invariants
//! - **LOAD-1 (all or an error).** What cannot be understood or read to its end is an error that
//!   tells where; the answer is never computed from a part of a file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

use super::{Data, DataBuilder};

/// The path that stands for standard input.
pub const STDIN: &str = "-";

const BUFFER_BYTES: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// How much of a malformed line a message shows.
const SHOWN_CHARS: usize = 80;

/// Why data could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file is not there, or may not be read.
    #[error("cannot open {file}: {source}")]
    Open {
        /// The file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// Reading failed on the way; compressed data may be damaged.
    #[error("cannot read {file} after line {line}: {source}")]
    Read {
        /// The file.
        file: String,
        /// The last line that was read.
        line: u64,
        /// What the system or the decompressor says.
        source: io::Error,
    },
    /// Compressed data ends before its end.
    #[error("{file} is cut off after line {line}: its compressed data has no end")]
    Truncated {
        /// The file.
        file: String,
        /// The last line that was read.
        line: u64,
    },
    /// A line is not in the format.
    #[error("{file}:{line}: expected {expected}, found `{text}`")]
    Malformed {
        /// The file.
        file: String,
        /// The line's number; the first is 1.
        line: u64,
        /// What a line looks like.
        expected: &'static str,
        /// The line, its unprintable characters escaped and a long one cut.
        text: String,
        /// Whether any line before it was in the format.
        any: bool,
    },
    /// There is no line with data.
    #[error("{file} is empty: expected lines of {expected}")]
    Empty {
        /// The file.
        file: String,
        /// What a line looks like.
        expected: &'static str,
    },
    /// Both files were to be read from standard input.
    #[error("follows and tweets cannot both be read from standard input (`-`)")]
    BothStdin,
}

impl LoadError {
    /// What the user may try next.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            LoadError::Truncated { .. } => Some("fetch the file again; `gzip -t FILE` checks it"),
            // Not even the first line, comments aside, is what it should be.
            LoadError::Malformed { any: false, .. } | LoadError::Empty { .. } => {
                Some("were --follows and --tweets interchanged?")
            }
            LoadError::Malformed { any: true, .. } => None,
            LoadError::BothStdin => Some("give a path to one of them"),
            LoadError::Open { .. } | LoadError::Read { .. } => None,
        }
    }
}

const FOLLOWS: &str = "`a b` (user a follows user b, two numbers)";
const TWEETS: &str = "`key<TAB>user user ...` (users are numbers)";

/// Loads the follower graph and the tweets; [`STDIN`] stands for standard input.
pub fn load(follows: &Path, tweets: &Path) -> Result<Data, LoadError> {
    if [follows, tweets].iter().all(|path| path.as_os_str() == STDIN) {
        return Err(LoadError::BothStdin);
    }
    let mut builder = DataBuilder::new();
    Lines::open(follows)?.each(FOLLOWS, |line| follow(&mut builder, line))?;
    Lines::open(tweets)?.each(TWEETS, |line| tweet(&mut builder, line))?;
    Ok(builder.build())
}

/// What a line turned out to be.
enum Line {
    Taken,
    Comment,
    Malformed,
}

fn follow(builder: &mut DataBuilder, line: &[u8]) -> Line {
    if line.starts_with(b"#") {
        return Line::Comment;
    }
    let mut numbers = numbers(line);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Some(follower)), Some(Some(followed)), None) => {
            builder.follow(follower, followed);
            Line::Taken
        }
        _ => Line::Malformed,
    }
}

fn tweet(builder: &mut DataBuilder, line: &[u8]) -> Line {
    let Some(tab) = line.iter().position(|&byte| byte == b'\t') else { return Line::Malformed };
    let (key, users) = line.split_at(tab);
    let Ok(key) = str::from_utf8(key) else { return Line::Malformed };
    if key.is_empty() || users.trim_ascii().is_empty() {
        return Line::Malformed;
    }
    let key = builder.key(key);
    for user in numbers(users) {
        match user {
            Some(user) => builder.tweet_key(key, user),
            None => return Line::Malformed,
        }
    }
    Line::Taken
}

/// The fields of a line, `None` for one that is no number.
fn numbers(line: &[u8]) -> impl Iterator<Item = Option<u64>> {
    line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).map(number)
}

fn number(field: &[u8]) -> Option<u64> {
    field.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The lines of one file.
struct Lines {
    file: String,
    reader: Box<dyn BufRead>,
    line: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Lines, LoadError> {
        let (file, bytes): (String, Box<dyn Read>) = if path.as_os_str() == STDIN {
            ("<stdin>".to_owned(), Box::new(io::stdin()))
        } else {
            let file = path.display().to_string();
            match File::open(path) {
                Ok(bytes) => (file, Box::new(bytes)),
                Err(source) => return Err(LoadError::Open { file, source }),
            }
        };
        match decompressed(bytes) {
            Ok(reader) => Ok(Lines { file, reader, line: 0 }),
            Err(source) => Err(LoadError::Read { file, line: 0, source }),
        }
    }

    /// Gives each line that has something in it to `take`.
    fn each(
        mut self,
        expected: &'static str,
        mut take: impl FnMut(&[u8]) -> Line,
    ) -> Result<(), LoadError> {
        let mut bytes = Vec::new();
        let mut any = false;
        while self.next_into(&mut bytes)? {
            let line = bytes.trim_ascii_end();
            if line.is_empty() {
                continue;
            }
            match take(line) {
                Line::Taken => any = true,
                Line::Comment => {}
                Line::Malformed => {
                    let text = shown(line);
                    return Err(LoadError::Malformed {
                        file: self.file,
                        line: self.line,
                        expected,
                        text,
                        any,
                    });
                }
            }
        }
        if any { Ok(()) } else { Err(LoadError::Empty { file: self.file, expected }) }
    }

    /// Reads the next line into `bytes`; false at the end.
    fn next_into(&mut self, bytes: &mut Vec<u8>) -> Result<bool, LoadError> {
        bytes.clear();
        match self.reader.read_until(b'\n', bytes) {
            Ok(0) => Ok(false),
            Ok(_) => {
                self.line += 1;
                Ok(true)
            }
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> LoadError {
        let (file, line) = (self.file.clone(), self.line);
        // Plain files end where they end; only a decompressor knows that more should follow.
        if source.kind() == ErrorKind::UnexpectedEof {
            LoadError::Truncated { file, line }
        } else {
            LoadError::Read { file, line, source }
        }
    }
}

/// `bytes`, decompressed if they begin as gzip does. A file's name does not matter.
fn decompressed(mut bytes: Box<dyn Read>) -> io::Result<Box<dyn BufRead>> {
    let mut magic = Vec::new();
    bytes.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut magic)?;
    let gzip = magic == GZIP_MAGIC;
    let all = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(bytes));
    Ok(if gzip {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(all)))
    } else {
        Box::new(all)
    })
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown = String::new();
    for char in text.chars().take(SHOWN_CHARS) {
        match char {
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}
