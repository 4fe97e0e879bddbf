//! Loading data: every way in which a file can be wrong, and the real files when they are here.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use raybolt_examples::reach::{Data, LoadError, load, reach_of};

mod common;

const FOLLOWS: &str = "# a comment\n1 2\n3\t2\r\n\n  2 2 \n9999999999 4";
const TWEETS: &str = "#FF\t2 4\n@x y\t2\n#none\t5\n";

#[test]
fn plain_files_are_understood() {
    let dir = Dir::new("plain");
    check_small(&dir.load(FOLLOWS, TWEETS).expect("both files are good"));
}

#[test]
fn compressed_files_are_recognized_by_their_content() {
    let dir = Dir::new("gzip");
    let data = dir.load(gzip(FOLLOWS), gzip(TWEETS)).expect("both files are good");
    check_small(&data);
}

#[test]
fn a_compressed_file_may_have_many_members() {
    let dir = Dir::new("members");
    let (start, end) = FOLLOWS.split_at(17);
    let follows = [gzip(start), gzip(""), gzip(end)].concat();
    check_small(&dir.load(follows, TWEETS).expect("both files are good"));
}

fn check_small(data: &Data) {
    assert_eq!(data.followers().values(), 4);
    assert_eq!(data.keys().len(), 3);
    assert_eq!(data.users(), 6);
    assert_eq!(reach_of(data, "#FF"), 4);
    assert_eq!(reach_of(data, "@x y"), 3);
    assert_eq!(reach_of(data, "#none"), 0);
}

#[test]
fn a_key_on_two_lines_has_the_tweeters_of_both() {
    let dir = Dir::new("twice");
    let data = dir.load("1 2\n1 3\n4 3\n", "k\t2\nk\t3\n").expect("both files are good");
    assert_eq!(reach_of(&data, "k"), 2);
}

#[test]
fn a_malformed_line_of_follows_is_told_with_its_number_and_text() {
    let dir = Dir::new("follows");
    for (line, shown) in [
        ("12", "12"),
        ("12 13 14", "12 13 14"),
        ("12 bob", "12 bob"),
        ("12 -13", "12 -13"),
        ("12 99999999999999999999", "12 99999999999999999999"),
        ("12\u{1b}[2J", "12\\u{1b}[2J"),
    ] {
        assert_eq!(
            dir.error(format!("1 2\n# fine\n{line}\n5 6\n"), TWEETS),
            format!(
                "DIR/follows:3: expected `a b` (user a follows user b, two numbers), found \
                 `{shown}`"
            )
        );
    }
}

#[test]
fn a_malformed_line_of_tweets_is_told_with_its_number_and_text() {
    let dir = Dir::new("tweets");
    for (line, shown) in [
        ("# a comment", "# a comment"),
        ("#FF 12 13", "#FF 12 13"),
        ("#FF\t", "#FF"),
        ("\t12 13", "\\t12 13"),
        ("#FF\t12 bob", "#FF\\t12 bob"),
    ] {
        assert_eq!(
            dir.error(FOLLOWS, format!("a\t1\n{line}\n")),
            format!(
                "DIR/tweets:2: expected `key<TAB>user user ...` (users are numbers), found \
                 `{shown}`"
            )
        );
    }
    assert!(dir.error(FOLLOWS, b"a\t1\n\xff\t2\n".as_slice()).contains("tweets:2: expected"));
}

#[test]
fn a_long_malformed_line_is_shown_in_part() {
    let dir = Dir::new("long");
    let error = dir.error("1 2 ".repeat(1_000_000), TWEETS);
    assert!(error.ends_with("1 2 1 2 ...`"), "{error}");
    assert!(error.len() < 300, "{error}");
}

#[test]
fn a_truncated_file_is_an_error_wherever_it_is_cut() {
    let dir = Dir::new("truncated");
    let whole = gzip(FOLLOWS);
    for len in 2..whole.len() {
        let error = dir.error(&whole[..len], TWEETS);
        assert!(error.starts_with("DIR/follows is cut off after line "), "at {len}: {error}");
    }
    let many = gzip((0..100_000).map(|user| format!("{user} {}\n", user + 1)).collect::<String>());
    let error = dir.error(&many[..many.len() / 2], TWEETS);
    assert!(error.ends_with(": its compressed data has no end"), "{error}");
    let line: u64 = error.split([' ', ':']).find_map(|word| word.parse().ok()).expect("a number");
    assert!((1_000..100_000).contains(&line), "{error}");
}

#[test]
fn a_damaged_file_is_an_error() {
    let dir = Dir::new("damaged");
    let mut damaged = gzip(FOLLOWS);
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 1;
    let error = dir.error(damaged, TWEETS);
    assert!(error.starts_with("cannot read DIR/follows after line "), "{error}");

    let trailing = [gzip(FOLLOWS), b"more".to_vec()].concat();
    assert!(dir.load(trailing, TWEETS).is_err(), "what follows a member must be one");
}

#[test]
fn a_missing_file_is_an_error() {
    let dir = Dir::new("missing");
    let path = dir.path("nowhere.gz");
    let error = load(&path, &path).expect_err("there is no such file").to_string();
    assert!(error.starts_with("cannot open "), "{error}");
    assert!(error.contains("nowhere.gz: No such file"), "{error}");
}

#[test]
fn a_directory_is_an_error() {
    let dir = Dir::new("directory");
    let error = load(&dir.0, &dir.0).expect_err("a directory has no lines").to_string();
    assert!(error.starts_with("cannot read "), "{error}");
}

#[test]
fn a_file_without_data_is_an_error() {
    let dir = Dir::new("empty");
    for follows in [Vec::new(), b"\n# nothing\n".to_vec(), gzip("")] {
        assert_eq!(
            dir.error(follows, TWEETS),
            "DIR/follows is empty: expected lines of `a b` (user a follows user b, two numbers)"
        );
    }
    assert!(dir.error(FOLLOWS, "").starts_with("DIR/tweets is empty: "));
}

#[test]
fn standard_input_cannot_be_both_files() {
    let error = load(Path::new("-"), Path::new("-")).expect_err("it can be read once").to_string();
    assert_eq!(error, "follows and tweets cannot both be read from standard input (`-`)");
}

#[test]
fn the_real_files_have_the_known_counts() {
    let Some(shared) = common::real_data() else { return };
    let load = |tweets: &str| {
        load(&shared.join("snap-ego-twitter-follows.txt.gz"), &shared.join(tweets))
            .expect("the real files are good")
    };
    let hashtags = load("snap-ego-twitter-hashtag-users.tsv.gz");
    assert_eq!(hashtags.followers().values(), 1_768_149);
    assert_eq!((hashtags.keys().len(), hashtags.tweeters().values()), (34_585, 268_654));
    assert_eq!(records(&hashtags), 9_829_337);
    let ff = hashtags.key("#FF").expect("it is there");
    assert_eq!((hashtags.records(ff), reach_of(&hashtags, "#FF")), (197_879, 39_656));

    let mentions = load("snap-ego-twitter-mention-users.tsv.gz");
    assert_eq!((mentions.keys().len(), mentions.tweeters().values()), (182_254, 976_580));
    assert_eq!(records(&mentions), 43_740_527);
}

fn records(data: &Data) -> u64 {
    (0..data.keys().len() as u32).map(|key| data.records(key)).sum()
}

fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_ref()).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

/// A directory of one test.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Dir {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reach_load").join(test);
        fs::create_dir_all(&path).expect("the target directory can be written");
        Dir(path)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn load(&self, follows: impl AsRef<[u8]>, tweets: impl AsRef<[u8]>) -> Result<Data, LoadError> {
        let paths = [self.path("follows"), self.path("tweets")];
        fs::write(&paths[0], follows).expect("the target directory can be written");
        fs::write(&paths[1], tweets).expect("the target directory can be written");
        load(&paths[0], &paths[1])
    }

    /// The message of the error that loading gives, `DIR` standing for this directory.
    fn error(&self, follows: impl AsRef<[u8]>, tweets: impl AsRef<[u8]>) -> String {
        let error = self.load(follows, tweets).expect_err("the files are not good");
        error.to_string().replace(&self.0.display().to_string(), "DIR")
    }
}
