//! Reach: how many distinct people may have seen a URL, computed by Distributed RPC.
//!
//! One call goes in (the URL), fans out over a topology of twenty-five instances, one answer comes
//! out:
//!
//! ```text
//! url --> GetTweeters x4 --> GetFollowers x12 --> PartialUniquer x6 --> CountAggregator x3 --> reach
//!                    shuffle          (request, follower)        (request)
//! ```
//!
//! Without arguments it asks three small tables, and then a generated network with a million edges:
//!
//! ```text
//! $ cargo run --release --example reach
//! foo.com/blog/1: 16
//! engineering.twitter.com/blog/5: 14
//! tech.backtype.com/blog/123: 7
//! notaurl.com: 0
//!
//! generated from seed 7: 100000 users, 1000000 edges
//! 10000 keys, 10554080 follower records, sum of reach 7257850
//! 0.098 s, 100000000 records/s
//! ```
//!
//! With files it answers from real data: `--follows FILE --tweets FILE`, and `--key K` or `--all`.

mod report;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use raybolt_examples::reach::{
    Data, Generate, LoadError, Options, Reach, TABLE_ANSWERS, generate, load, tables,
};

use report::{Answer, Generated, Report, Summary, Tables};

/// How many distinct people may have seen a URL: asks tables and a generated network, or your files.
#[derive(Debug, Parser)]
#[command(name = "reach", version)]
struct Args {
    /// Who follows whom: lines `a b` (SNAP), plain or gzip; `-` for standard input.
    #[arg(long, value_name = "FILE", requires = "tweets")]
    follows: Option<PathBuf>,
    /// Who tweeted what: lines `key<TAB>user user ...`, plain or gzip; `-` for standard input.
    #[arg(long, value_name = "FILE", requires = "follows")]
    tweets: Option<PathBuf>,
    /// Ask for one key (of the tables, if no files are given).
    #[arg(long, value_name = "KEY", conflicts_with = "all")]
    key: Option<String>,
    /// Ask for every key of the files, many at a time.
    #[arg(long, requires = "follows")]
    all: bool,
    /// With --all: how many keys of largest reach to list.
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// How many requests may be in flight at once.
    #[arg(long, value_name = "N", default_value_t = Options::default().in_flight,
          value_parser = at_least_one)]
    in_flight: usize,
    /// Worker threads; as many as CPUs if not given.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<usize>,
    /// Run at most so many instances of each component.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_parallelism: Option<usize>,
    /// Seed of the generated network.
    #[arg(long, value_name = "N", default_value_t = Generate::default().seed,
          conflicts_with_all = ["follows", "key"])]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).and_then(|report| print(&report, args.json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(hint) = error.downcast_ref().and_then(LoadError::hint) {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<Report> {
    let data = match (&args.follows, &args.tweets) {
        (Some(follows), Some(tweets)) => {
            if !args.all && args.key.is_none() {
                anyhow::bail!(
                    "nothing asked: add `--key KEY` for one key, or `--all` for every key"
                );
            }
            load(follows, tweets)?
        }
        _ if args.key.is_some() => tables(),
        _ => return introduction(args),
    };
    match &args.key {
        Some(key) => ask_one(args, data, key).map(Report::One),
        None => ask_all(args, data).map(Report::All),
    }
}

/// What a newcomer sees first.
fn introduction(args: &Args) -> anyhow::Result<Report> {
    let reach = Reach::start(Arc::new(tables()), options(args))?;
    let mut answers = Vec::new();
    for (key, _) in TABLE_ANSWERS {
        answers.push(Answer { key: key.to_owned(), reach: reach.ask(key)? });
    }
    drop(reach);
    let data = generate(Generate { seed: args.seed, ..Generate::default() });
    let (users, edges) = (data.users(), data.followers().values());
    let summary = ask_all(args, data)?;
    Ok(Report::Introduction(Tables {
        tables: answers,
        generated: Generated { seed: args.seed, users, edges, summary },
    }))
}

fn ask_one(args: &Args, data: Data, key: &str) -> anyhow::Result<Answer> {
    let records = data.key(key).map(|number| data.records(number));
    let reach = Reach::start(Arc::new(data), options(args))?;
    let start = Instant::now();
    let answer = Answer { key: key.to_owned(), reach: reach.ask(key)? };
    match records {
        Some(records) => {
            eprintln!("{records} follower records in {:.3} s", start.elapsed().as_secs_f64());
        }
        None => eprintln!("note: nobody tweeted `{key}`"),
    }
    Ok(answer)
}

fn ask_all(args: &Args, data: Data) -> anyhow::Result<Summary> {
    let data = Arc::new(data);
    let keys = data.keys();
    let bar = progress_bar(keys.len());
    let reach = Reach::start(Arc::clone(&data), options(args))?;
    let mut answers = vec![0; keys.len()];
    let start = Instant::now();
    reach.ask_all(|key, answer| {
        answers[key as usize] = answer;
        if key % 256 == 0 {
            bar.set_position(u64::from(key));
        }
    })?;
    let elapsed = start.elapsed();
    bar.finish_and_clear();
    Ok(Summary::new(&data, &answers, elapsed, args.top))
}

/// A bar on stderr; nothing at all if that is no terminal.
fn progress_bar(keys: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} keys, {eta} left")
        .expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(keys as u64), ProgressDrawTarget::stderr()).with_style(style)
}

fn options(args: &Args) -> Options {
    Options {
        in_flight: args.in_flight,
        threads: args.threads,
        max_parallelism: args.max_parallelism,
    }
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let mut text = if json { serde_json::to_string_pretty(report)? } else { report.to_string() };
    text.push('\n');
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough, as in `reach --all | head -1`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}
