//! The store between real processes: this program runs itself again as a worker, or where the disk is full.
//!
//! Without a harness, since the children are to run one role and no tests.
#![allow(clippy::print_stdout, reason = "it reports as a harness would, and children talk to it")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use raybolt_core::ids::ProcessId;
use raybolt_store::{ALIGN, ArenaView, Key, Options, PutError, Region, Store};

const MIB: u64 = 1 << 20;
const WORKER: ProcessId = ProcessId(2);

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("--reader") => return reader(arguments),
        Some("--writer") => return writer(arguments),
        Some("--full-disk") => return full_disk(&arguments.next().expect("a directory")),
        _ => {}
    }
    let tests: [(&str, fn()); 4] = [
        ("a reader sees the writer's pages and cannot write them", readers_cannot_write),
        ("what a dead writer has sealed stays and its slab is free", a_writer_dies),
        ("a disk that is really full loses nothing", a_real_disk_is_full),
        ("an arena goes with its last process", an_arena_goes),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
}

/// A child of ours, killed when it is dropped.
struct Worker {
    child: Child,
    /// Its end is the child's end.
    _input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(role: &str, arguments: &[String]) -> Self {
        Worker::spawn(Command::new(program()).arg(role).args(arguments))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Worker { child, _input: input, output: BufReader::new(output) }
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the child has ended");
        line.trim_end().into()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn arena_of(store: &Store) -> [String; 2] {
    [store.arena_path().display().to_string(), store.capacity_bytes().to_string()]
}

fn region_of(region: Region) -> [String; 2] {
    [region.offset.to_string(), region.bytes.to_string()]
}

fn open(arguments: &mut impl Iterator<Item = String>) -> (ArenaView, Region) {
    let path = PathBuf::from(arguments.next().unwrap());
    let mut number = || arguments.next().unwrap().parse::<u64>().unwrap();
    let view = ArenaView::open(&path, number()).unwrap();
    let region = Region { offset: number(), bytes: number() };
    (view, region)
}

/// STORE-3.
fn readers_cannot_write() {
    let store = Store::open(Options::new(MIB)).unwrap();
    let mut writer = store.create(Key(1), 800).unwrap();
    bytemuck::cast_slice_mut::<u8, u64>(&mut writer).fill(3);
    writer.seal().unwrap();
    let region = store.pin_for(WORKER, Key(1), Instant::now()).unwrap();
    let arguments = [arena_of(&store), region_of(region)].concat();
    let mut reader = Worker::start("--reader", &arguments);
    assert_eq!(reader.hear(), "sum 300");
    assert_eq!(reader.hear(), "maps r--s", "its only map of the arena is for reading");
    drop(reader);
    store.process_lost(WORKER);
    store.release(Key(1));
    assert!(store.usage().is_zero());
}

fn reader(mut arguments: impl Iterator<Item = String>) {
    let (view, region) = open(&mut arguments);
    let mapped = view.mapped(region, || {}).unwrap();
    println!("sum {}", mapped.as_slice_of::<u64>().unwrap().iter().sum::<u64>());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let arena = maps.lines().filter(|line| line.contains("memfd:raybolt-store"));
    let access: Vec<_> = arena.filter_map(|line| line.split(' ').nth(1)).collect();
    println!("maps {}", access.join(" "));
    drop(mapped);
}

/// OBJ-6: the writer is killed with SIGKILL while it fills its slab.
fn a_writer_dies() {
    let store = Store::open(Options::new(MIB)).unwrap();
    let lent = store.try_lend_slab(WORKER, MIB / 2).unwrap();
    let arguments = [arena_of(&store), region_of(lent.region)].concat();
    let mut writer = Worker::start("--writer", &arguments);
    for key in 0..10 {
        let line = writer.hear();
        let (offset, bytes) = line.split_once(' ').unwrap();
        let region = Region { offset: offset.parse().unwrap(), bytes: bytes.parse().unwrap() };
        store.sealed_in_slab(WORKER, lent.slab, Key(key), region).unwrap();
    }
    assert_eq!(writer.hear(), "half", "it is in the midst of an object");
    drop(writer);
    assert_eq!(store.usage().slab_bytes, MIB / 2 - 10 * 1024);
    store.process_lost(WORKER);
    let usage = store.usage();
    assert_eq!((usage.slab_bytes, usage.used_bytes), (0, 10 * 1024));
    for key in 0..10 {
        assert_eq!(store.pin(Key(key)).unwrap()[..], [key as u8; 1000]);
        store.release(Key(key));
    }
    assert!(store.usage().is_zero());
    store.put(Key(10), &vec![0; MIB as usize]).expect("all of the arena is free again");
}

fn writer(mut arguments: impl Iterator<Item = String>) {
    let (view, region) = open(&mut arguments);
    let slab = view.slab(region).unwrap();
    for key in 0..10 {
        let mut part = slab.take(1000).unwrap().unwrap();
        part.fill(key);
        let region = part.seal();
        println!("{} {}", region.offset, region.bytes);
    }
    let mut part = slab.take(100 * ALIGN).unwrap().unwrap();
    part[..3000].fill(0xFF);
    println!("half");
    wait_for_the_end();
}

/// A file system of 2 MiB where this user may mount one, else a limit on the length of files.
fn a_real_disk_is_full() {
    let dir = std::env::temp_dir().join(format!("raybolt-store-full-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let script = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&dir).arg(program());
        command
    };
    let mount = "mount -t tmpfs -o size=2m raybolt \"$1\"";
    let probe = script(&format!("unshare -rm sh -c '{mount}' sh \"$1\" 2>/dev/null")).status();
    let mut command = if probe.is_ok_and(|status| status.success()) {
        script(&format!(
            "exec unshare -rm sh -c '{mount} && exec \"$2\" --full-disk \"$1\"' sh \"$1\" \"$2\""
        ))
    } else {
        script("trap '' XFSZ; ulimit -f 256; exec \"$2\" --full-disk \"$1\"")
    };
    let mut child = Worker::spawn(&mut command);
    let line = child.hear();
    assert!(
        line.contains(dir.to_str().unwrap())
            && (line.contains("No space left on device") || line.contains("File too large")),
        "{line}"
    );
    println!("    {line}");
    assert_eq!(child.hear(), "all there");
    drop(child);
    std::fs::remove_dir_all(&dir).unwrap();
}

fn full_disk(dir: &str) {
    let spill_dir = Some(dir.into());
    let store = Store::open(Options { spill_dir, ..Options::new(4 * MIB) }).unwrap();
    let bytes = |key: u64| vec![key as u8; 100_000];
    let put = |key: u64| store.put(Key(key), &bytes(key));
    let Some((count, error)) = (0..1000).find_map(|key| put(key).err().map(|error| (key, error)))
    else {
        panic!("a thousand objects went to a full disk");
    };
    assert!(matches!(error, PutError::SpillFailed { .. }), "{error}");
    println!("{error}");
    // Readers of what lies on disk need room in memory: from the newest on, each makes it.
    for key in (0..count).rev() {
        let mapped = store.pin(Key(key)).unwrap();
        assert_eq!(mapped[..], bytes(key));
        drop(mapped);
        store.release(Key(key));
    }
    assert!(store.usage().is_zero());
    println!("all there");
    wait_for_the_end();
}

fn an_arena_goes() {
    let store = Store::open(Options::new(MIB)).unwrap();
    let path = store.arena_path();
    let view = ArenaView::open(&path, MIB).unwrap();
    store.put(Key(1), &[5; 100]).unwrap();
    let region = store.pin_for(WORKER, Key(1), Instant::now()).unwrap();
    drop(store);
    let mapped = view.mapped(region, || {}).unwrap();
    assert_eq!(mapped[..], [5; 100], "whoever has it mapped has it still");
    let opened = ArenaView::open(&path, MIB);
    assert!(opened.is_err(), "but nobody can open it any more");
}

fn wait_for_the_end() {
    std::io::stdout().flush().unwrap();
    drop(std::io::stdin().lines().next());
}
