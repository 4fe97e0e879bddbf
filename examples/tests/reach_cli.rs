//! The command line of `reach`: answers on stdout, the rest on stderr, errors that help.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

mod common;

const FOLLOWS: &str = "1 2\n3 2\n3 4\n";
const TWEETS: &str = "#FF\t2 4\n@one\t4\n";

#[test]
fn one_key_prints_one_number() {
    let files = Files::new("one", FOLLOWS, TWEETS);
    assert_eq!(files.stdout(&["--key", "#FF"]), "2\n");
    assert_eq!(files.stdout(&["--key", "@one"]), "1\n");
}

#[test]
fn a_key_that_nobody_tweeted_has_no_reach_and_a_note() {
    let files = Files::new("nobody", FOLLOWS, TWEETS);
    let output = files.command(&["--key", "#ff"]).output().expect("it runs");
    assert!(output.status.success());
    assert_eq!(output.stdout, b"0\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "note: nobody tweeted `#ff`\n");
}

#[test]
fn one_key_is_asked_of_the_tables_without_files() {
    for (key, reach) in raybolt_examples::reach::TABLE_ANSWERS {
        let printed = common::stdout(common::example("reach").args(["--key", key]));
        assert_eq!(printed, format!("{reach}\n"), "{key}");
    }
}

#[test]
fn all_keys_are_summed_and_the_top_is_listed() {
    let files = Files::new("all", FOLLOWS, TWEETS);
    let printed = files.stdout(&["--all", "--top", "1"]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[..2], ["#FF: 2", "2 keys, 4 follower records, sum of reach 3"]);
    assert!(lines[2].ends_with(" records/s"), "{printed}");
    assert_eq!(lines.len(), 3);
}

#[test]
fn json_says_the_same() {
    let files = Files::new("json", FOLLOWS, TWEETS);
    let one: Value =
        serde_json::from_str(&files.stdout(&["--key", "#FF", "--json"])).expect("JSON");
    assert_eq!(one, serde_json::json!({ "key": "#FF", "reach": 2 }));
    let all: Value = serde_json::from_str(&files.stdout(&["--all", "--json"])).expect("JSON");
    assert_eq!((&all["keys"], &all["records"], &all["sum"]), (&2.into(), &4.into(), &3.into()));
    assert_eq!(all["top"][1], serde_json::json!({ "key": "@one", "reach": 1 }));
    assert!(all["seconds"].is_f64() && all["records_per_second"].is_u64(), "{all}");
}

#[test]
fn answers_do_not_depend_on_parallelism() {
    let files = Files::new("parallelism", FOLLOWS, TWEETS);
    for options in [
        ["--max-parallelism", "1"],
        ["--max-parallelism", "3"],
        ["--threads", "1"],
        ["--threads", "4"],
        ["--in-flight", "1"],
    ] {
        let printed = files.stdout(&[["--all"].as_slice(), &options].concat());
        assert!(printed.contains("sum of reach 3\n"), "{options:?}: {printed}");
    }
}

#[test]
fn a_dash_reads_standard_input() {
    let files = Files::new("stdin", FOLLOWS, TWEETS);
    let printed = common::stdout(
        common::example("reach")
            .args(["--follows", "-", "--tweets"])
            .arg(&files.tweets)
            .args(["--key", "#FF"])
            .stdin(Stdio::from(File::open(&files.follows).expect("it was written"))),
    );
    assert_eq!(printed, "2\n");
}

#[test]
fn an_error_of_the_data_ends_with_its_place_and_a_hint() {
    let files = Files::new("malformed", TWEETS, FOLLOWS);
    let (code, stderr) = files.failure(&["--all"]);
    assert_eq!(code, 1);
    assert_eq!(
        stderr.replace(&files.dir.display().to_string(), "DIR"),
        "error: DIR/follows:2: expected `a b` (user a follows user b, two numbers), found \
         `@one\\t4`\n\
         hint: were --follows and --tweets interchanged?\n"
    );
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let files = Files::new("refused", FOLLOWS, TWEETS);
    let (code, stderr) = files.failure(&[]);
    assert_eq!(code, 1);
    assert_eq!(
        stderr,
        "error: nothing asked: add `--key KEY` for one key, or `--all` for every key\n"
    );
    for (options, message) in [
        (["--all", "--key=x"].as_slice(), "'--all' cannot be used with '--key <KEY>'"),
        (&["--key=x", "--in-flight=0"], "'--in-flight <N>': must be at least 1"),
        (&["--key=x", "--threads=many"], "'--threads <N>': invalid digit"),
        (&["--key=x", "--seed=1"], "cannot be used with '--seed <N>'"),
    ] {
        let (code, stderr) = files.failure(options);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    }
    for (options, message) in [
        (["--follows=x"].as_slice(), "--tweets <FILE>"),
        (&["--tweets=x"], "--follows <FILE>"),
        (&["--all"], "--follows <FILE>"),
    ] {
        let output = common::example("reach").args(options).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    }
}

#[test]
fn the_real_data_gives_the_known_answers() {
    let Some(data) = common::real_data() else { return };
    let reach = |options: &[&str]| {
        common::stdout(
            common::example("reach")
                .arg("--follows")
                .arg(data.join("snap-ego-twitter-follows.txt.gz"))
                .arg("--tweets")
                .arg(data.join("snap-ego-twitter-hashtag-users.tsv.gz"))
                .args(options),
        )
    };
    assert_eq!(reach(&["--key", "#FF"]), "39656\n");
    let all = reach(&["--all", "--top", "1"]);
    assert!(all.contains("9829337 follower records, sum of reach 6446650\n"), "{all}");
    assert!(all.starts_with("#FF: 39656\n"), "{all}");
}

/// Two small files.
struct Files {
    dir: PathBuf,
    follows: PathBuf,
    tweets: PathBuf,
}

impl Files {
    fn new(test: &str, follows: &str, tweets: &str) -> Files {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reach_cli").join(test);
        fs::create_dir_all(&dir).expect("the target directory can be written");
        let files = Files { follows: dir.join("follows"), tweets: dir.join("tweets"), dir };
        fs::write(&files.follows, follows).expect("the target directory can be written");
        fs::write(&files.tweets, tweets).expect("the target directory can be written");
        files
    }

    fn command(&self, options: &[&str]) -> std::process::Command {
        let mut command = common::example("reach");
        command.arg("--follows").arg(&self.follows).arg("--tweets").arg(&self.tweets);
        command.args(options);
        command
    }

    fn stdout(&self, options: &[&str]) -> String {
        common::stdout(&mut self.command(options))
    }

    /// The exit code and stderr of a run that fails, and prints nothing to stdout.
    fn failure(&self, options: &[&str]) -> (i32, String) {
        let output = self.command(options).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        let code = output.status.code().expect("it was not killed");
        (code, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
