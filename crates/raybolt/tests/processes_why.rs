//! `why` over worker processes: what waits for the store, for a worker, or for itself.
//!
//! A program of its own, since its workers are this very file started again. A worker whose gate is shut stops
//! before it serves, until the case opens it: nothing here depends on how long anything takes.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use raybolt::inspect::{Cause, Why, why};
use raybolt::{
    Array, Builder, LogLevel, ObjectRef, Result, Session, get, get_timeout, kill, put, remote,
};

use cases::{Case, Harness};

const MIB: usize = 1 << 20;
/// Four of these fill a store of eight MiB.
const QUARTER: usize = 2 * MIB - 64 * 1024;
const SOON: Duration = Duration::from_secs(60);
/// Longer than it takes until the driver hears of a wait.
const SHORT: Duration = Duration::from_millis(100);
/// Names the folder of the gates.
const GATES: &str = "WHY_GATES";

const CASES: &[Case<Result<()>>] = &[
    ("a put that waits for room names who has it", put_here),
    ("a put in a worker is followed to who has the room", put_there),
    ("a result that waits for room is its task's wait", result),
    ("an argument that cannot be lent yet is its task's wait", argument),
    ("a put that waits in vain is an error with the store's figures", in_vain),
    ("an async task in a worker says what it awaits", async_task),
    ("actors in workers that wait for each other are told so", circle),
    ("a task in a worker that waits in a circle is told so", circle_by_a_task),
    ("what is no circle is not taken for one", no_circle),
    ("an actor in a worker that waits for itself is told so", itself),
    ("actors in workers that await each other are a circle", async_circle),
    ("a worker that starts is what tasks wait for", worker),
    ("a worker of gpus that starts is what its tasks wait for", worker_of_gpus),
];

fn main() -> ExitCode {
    let Some(gates) = std::env::var_os(GATES).map(PathBuf::from) else { return with_gates() };
    if raybolt::is_worker() {
        let sees_gpus = std::env::var("CUDA_VISIBLE_DEVICES").is_ok_and(|ids| !ids.is_empty());
        let gate = gates.join(if sees_gpus { "gpus" } else { "shared" });
        if gate.exists() {
            // Opened when somebody opens the other end.
            drop(File::open(gate));
        }
    }
    let mut harness = Harness::new();
    harness.all(CASES);
    harness.end()
}

/// Runs this program again with a folder for gates, and without the machine's own GPUs.
fn with_gates() -> ExitCode {
    let gates = std::env::temp_dir().join(format!("rb-why-{}", std::process::id()));
    std::fs::create_dir(&gates).expect("a new folder can be made");
    let program = std::env::current_exe().expect("this program has a name");
    let again =
        Command::new(program).env(GATES, &gates).env_remove("CUDA_VISIBLE_DEVICES").status();
    let _ = std::fs::remove_dir_all(gates);
    let is_well = again.is_ok_and(|status| status.success());
    ExitCode::from(u8::from(!is_well))
}

/// Workers that come to it wait there until it is opened.
struct Gate(PathBuf);

impl Gate {
    fn shut(name: &str) -> Self {
        let gates = std::env::var_os(GATES).expect("the folder of the gates is known");
        let path = PathBuf::from(gates).join(name);
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()), "{}", path.display());
        Gate(path)
    }

    fn open(self) {
        let open = OpenOptions::new().read(true).write(true).open(&self.0);
        std::fs::remove_file(&self.0).expect("the gate is there");
        // Whoever came before is let in, if it takes a moment, until the session is over.
        std::mem::forget(open.expect("a pipe can be opened"));
    }
}

fn session(builder: Builder) -> Session {
    let builder = builder.processes(1).num_cpus(2.0).log_level(LogLevel::Off);
    builder.worker_start_timeout(SOON).start().expect("no other session is there")
}

/// Whoever is not woken when room comes sleeps for longer than any test waits.
fn small_store() -> Builder {
    Builder::new().object_store_memory(8 * MIB).store_timeout(60 * SOON)
}

fn zeros(bytes: usize) -> Array<u8> {
    Array::from(vec![0; bytes])
}

/// Objects, and what was read of them.
type Filled = (Vec<ObjectRef<Array<u8>>>, Vec<Array<u8>>);

/// Fills the store with what is read here: nothing of it can be spilled.
fn fill() -> Result<Filled> {
    let objects = (0..4).map(|_| put(zeros(QUARTER))).collect::<Result<Vec<_>>>()?;
    let read = objects.iter().map(get).collect::<Result<_>>()?;
    Ok((objects, read))
}

#[remote]
fn puts(bytes: usize) -> Result<u64> {
    put(zeros(bytes)).map(|object| object.id())
}

#[remote]
fn makes(bytes: usize) -> Array<u8> {
    zeros(bytes)
}

#[remote]
fn length(bytes: &Array<u8>) -> usize {
    bytes.len()
}

#[remote]
fn twice(x: u64) -> u64 {
    2 * x
}

#[remote]
fn opened(gate: &str) -> u64 {
    drop(File::open(gate).expect("the gate is there"));
    1
}

#[remote]
async fn awaits(gate: String) -> Result<u64> {
    opened::remote(gate).await
}

struct Keeper {
    friend: Option<KeeperHandle>,
}

#[remote]
impl Keeper {
    pub fn new() -> Self {
        Keeper { friend: None }
    }

    pub fn same(&self, x: u64) -> u64 {
        x
    }

    pub fn meet(&mut self, friend: KeeperHandle) {
        self.friend = Some(friend);
    }

    /// Asks the friend, who asks back.
    pub async fn ask_later(&mut self) -> Result<u64> {
        self.friend.as_ref().unwrap().ask_back_later().await
    }

    pub async fn ask_back_later(&mut self) -> Result<u64> {
        self.friend.as_ref().unwrap().give().await
    }

    pub fn give(&mut self) -> u64 {
        1
    }
}

/// As a keeper, but without calls that leave their thread: one runs at a time.
struct Clerk {
    friend: Option<ClerkHandle>,
    own: Option<ObjectRef<u64>>,
}

#[remote]
impl Clerk {
    pub fn new() -> Self {
        Clerk { friend: None, own: None }
    }

    pub fn meet(&mut self, friend: ClerkHandle) {
        self.friend = Some(friend);
    }

    /// Asks the next one, and so on, so often.
    pub fn pass_on(&mut self, times: usize) -> Result<u64> {
        match times {
            0 => Ok(1),
            _ => get(self.friend.as_ref().unwrap().pass_on(times - 1)),
        }
    }

    /// Waits only for some time for one who waits for us; whether it was over.
    pub fn pass_on_for_a_while(&mut self) -> bool {
        let answer = self.friend.as_ref().unwrap().pass_on(1);
        get_timeout(answer, SHORT).is_err_and(|error| error.is_timeout())
    }

    pub fn read_of(&mut self, refs: Vec<ObjectRef<u64>>, sign: PathBuf) -> Result<u64> {
        File::create(sign).expect("the test made room");
        get(&refs[0])
    }

    pub fn call(&mut self, itself: ClerkHandle) {
        self.own = Some(itself.pass_on(0));
    }

    pub fn read_own(&mut self) -> Result<u64> {
        get(self.own.as_ref().expect("called before"))
    }
}

/// Asks the clerk as soon as that has given a sign.
#[remote]
fn asks_when(clerk: ClerkHandle, sign: PathBuf) -> Result<u64> {
    while !sign.exists() {
        std::thread::yield_now();
    }
    get(clerk.pass_on(0))
}

/// Its calls may run beside each other.
struct Twin {
    friend: std::sync::Mutex<Option<TwinHandle>>,
}

#[remote]
impl Twin {
    pub fn new() -> Self {
        Twin { friend: std::sync::Mutex::new(None) }
    }

    pub fn meet(&self, friend: TwinHandle) {
        *self.friend.lock().unwrap() = Some(friend);
    }

    pub fn ask_slowly(&self) -> Result<u64> {
        let friend = self.friend.lock().unwrap().clone();
        get(friend.unwrap().ask_back_slowly())
    }

    pub fn ask_back_slowly(&self) -> Result<u64> {
        let friend = self.friend.lock().unwrap().clone();
        get(friend.unwrap().give_slowly())
    }

    /// Longer than a wait is kept secret from the driver.
    pub fn give_slowly(&self) -> u64 {
        std::thread::sleep(4 * SHORT);
        1
    }
}

/// Asks until the answer begins with these causes: what waits may be on its way there.
fn explained(id: Option<&str>, causes: &[Cause]) -> Why {
    let late = Instant::now() + SOON;
    loop {
        let told = why(id);
        if let Ok(told) = &told
            && told.steps.len() >= causes.len()
            && told.steps.iter().zip(causes).all(|(step, cause)| step.cause == *cause)
        {
            return told.clone();
        }
        assert!(Instant::now() < late, "not {causes:?}, but {told:#?}");
        std::thread::yield_now();
    }
}

/// The first texts of an answer, in order, contain these.
fn tells(why: &Why, texts: &[&str]) {
    assert!(why.steps.len() >= texts.len(), "{why}");
    for (step, text) in why.steps.iter().zip(texts) {
        assert!(step.text.contains(text), "{why}\nwithout {text}");
    }
}

/// The store is named with its figures, and with the first of those who have its room.
fn tells_of_store(why: &Why, objects: &[ObjectRef<Array<u8>>], first: &str) {
    let quarter = QUARTER.next_multiple_of(64);
    let figures = "bytes are taken: ";
    tells(why, &[first]);
    let text = &why.steps[0].text;
    for part in ["of 8388608 ", figures, " could be spilled, ", "(drop what was read of it"] {
        assert!(text.contains(part), "{why}\nwithout {part}");
    }
    let pinned = text.split(figures).nth(1).and_then(|rest| rest.split(' ').next());
    let pinned: usize = pinned.and_then(|text| text.parse().ok()).expect("a number");
    assert!((4 * quarter..=8 * MIB).contains(&pinned), "{why}");
    let holders: Vec<_> = why.steps[1..5].iter().map(|step| step.id.clone().unwrap()).collect();
    for object in objects {
        assert!(holders.contains(&object.to_string()), "{why}\nwithout {object}");
    }
    for step in &why.steps[1..5] {
        assert_eq!(step.cause, Cause::Holder, "{why}");
        assert!(step.text.ends_with(", read by the driver"), "{why}");
    }
}

/// A wait for the store, and the four that have the room.
const FULL: [Cause; 5] = [Cause::Store, Cause::Holder, Cause::Holder, Cause::Holder, Cause::Holder];

fn put_here() -> Result<()> {
    let _session = session(small_store());
    let (objects, read) = fill()?;
    let waiter = std::thread::Builder::new().name("waiter".into());
    let waiter = waiter.spawn(|| put(zeros(QUARTER))).expect("a thread");
    let told = explained(None, &FULL);
    tells_of_store(&told, &objects, ": thread waiter waits for room of ");
    assert!(told.steps[0].id.as_deref().is_some_and(|id| id.starts_with("get-")), "{told}");
    drop((objects, read));
    assert_eq!(get(waiter.join().expect("no panic")?)?.len(), QUARTER);
    assert_eq!(why(None)?.steps, []);
    Ok(())
}

fn put_there() -> Result<()> {
    let _session = session(small_store());
    let (objects, read) = fill()?;
    let id = puts::remote(QUARTER);
    let told = explained(Some(&id.to_string()), &FULL);
    tells_of_store(&told, &objects, "`puts` on thread ");
    tells(&told, &[" of worker-1 waits for room of "]);
    drop((objects, read));
    get_timeout(id, SOON)?;
    Ok(())
}

fn result() -> Result<()> {
    let _session = session(small_store());
    let (objects, read) = fill()?;
    let made = makes::remote(QUARTER);
    let told = explained(Some(&made.to_string()), &FULL);
    tells_of_store(&told, &objects, "`makes` on thread ");
    tells(&told, &[" of worker-1 waits for room of "]);
    drop((objects, read));
    assert_eq!(get_timeout(made, SOON)?.len(), QUARTER);
    Ok(())
}

fn argument() -> Result<()> {
    let _session = session(small_store());
    let (objects, read) = fill()?;
    let lent = length::remote(&objects[0]);
    let told = explained(Some(&lent.to_string()), &FULL);
    tells_of_store(&told, &objects, "`length` on thread ");
    tells(&told, &[" bytes to a worker, until less than half of the store is being read"]);
    drop(read);
    assert_eq!(get_timeout(lent, SOON)?, QUARTER);
    Ok(())
}

fn in_vain() -> Result<()> {
    let _session = session(small_store().store_timeout(Duration::from_millis(20)));
    let (objects, read) = fill()?;
    let in_worker = get_timeout(puts::remote(QUARTER), SOON).unwrap_err().to_string();
    let of_worker = get_timeout(makes::remote(QUARTER), SOON).unwrap_err().to_string();
    let to_worker = get_timeout(length::remote(&objects[0]), SOON).unwrap_err().to_string();
    let here = put(zeros(QUARTER)).unwrap_err().to_string();
    for error in [&here, &in_worker, &of_worker] {
        for part in ["came free in time in a store of 8388608: ", "are being read", "(`object_"] {
            assert!(error.contains(part), "{error}\nwithout {part}");
        }
    }
    assert!(to_worker.contains("could not be lent to a worker within 20ms: "), "{to_worker}");
    drop(read);
    assert_eq!(get_timeout(length::remote(&objects[0]), SOON)?, QUARTER, "all goes on");
    put(zeros(QUARTER))?;
    Ok(())
}

fn async_task() -> Result<()> {
    let gate = Gate::shut("task");
    let _session = session(Builder::new());
    let object = awaits::remote(gate.0.to_str().expect("a plain name").to_owned());
    let told = explained(Some(&object.to_string()), &[Cause::Get, Cause::Running]);
    tells(&told, &["`awaits` awaits object-w", "`opened` is running on thread "]);
    gate.open();
    assert_eq!(get_timeout(object, SOON)?, 1);
    Ok(())
}

/// Whoever of them is the last to wait is told, and the error comes back to who has asked.
fn circle() -> Result<()> {
    let _session = session(Builder::new());
    let clerks: Vec<_> = (0..3).map(|_| Clerk::remote()).collect();
    for count in 2..=3 {
        let next = |at: usize| clerks[(at + 1) % count].clone();
        let meets: Vec<_> = (0..count).map(|at| clerks[at].meet(next(at))).collect();
        get_timeout(meets, SOON)?;
        let error = get_timeout(clerks[0].pass_on(count), SOON).unwrap_err().to_string();
        let members = error.matches(" `Clerk::pass_on`, which waits for").count();
        assert!(members >= count, "{error}");
        assert!(error.contains(", which waits for the first again: none of them could"), "{error}");
        let lives: Vec<_> = clerks.iter().map(|clerk| clerk.pass_on(0)).collect();
        assert_eq!(get_timeout(lives, SOON)?, [1; 3], "all of them live on");
    }
    Ok(())
}

fn circle_by_a_task() -> Result<()> {
    let _session = session(Builder::new());
    let clerk = Clerk::remote();
    let sign = std::env::temp_dir().join(format!("rb-{}-reads", std::process::id()));
    let asks = asks_when::remote(clerk.clone(), sign.clone());
    let reads = clerk.read_of(vec![asks.clone()], sign.clone());
    let told = [get_timeout(asks, SOON), get_timeout(reads, SOON)];
    drop(std::fs::remove_file(sign));
    let texts: Vec<_> =
        told.iter().filter_map(|told| Some(told.as_ref().err()?.to_string())).collect();
    assert!(texts.iter().any(|text| text.contains("waits for the first again")), "{told:?}");
    assert_eq!(get_timeout(clerk.pass_on(0), SOON)?, 1);
    Ok(())
}

/// All of these come back to where they began, and yet none waits for ever.
fn no_circle() -> Result<()> {
    let _session = session(Builder::new());
    let (one, other) = (Clerk::remote(), Clerk::remote());
    get_timeout((one.meet(other.clone()), other.meet(one.clone())), SOON)?;
    assert!(get_timeout(one.pass_on_for_a_while(), SOON)?, "its time was over");
    let (one, other) =
        (Twin::options().max_concurrency(2).remote(), Twin::options().max_concurrency(2).remote());
    get_timeout((one.meet(other.clone()), other.meet(one.clone())), SOON)?;
    assert_eq!(get_timeout(one.ask_slowly(), SOON)?, 1, "there is room for a second call");
    let clerk = Clerk::remote();
    for _ in 0..100 {
        get_timeout(clerk.call(clerk.clone()), SOON)?;
        assert_eq!(get_timeout(clerk.read_own(), SOON)?, 1, "it ran before the one that reads it");
    }
    Ok(())
}

fn itself() -> Result<()> {
    let _session = session(Builder::new());
    let twin = Twin::remote();
    get_timeout(twin.meet(twin.clone()), SOON)?;
    let error = get_timeout(twin.ask_slowly(), SOON).unwrap_err().to_string();
    assert!(error.contains("actor `Twin` waits for a call of its own"), "{error}");
    assert_eq!(get_timeout(twin.give_slowly(), SOON)?, 1);
    Ok(())
}

fn async_circle() -> Result<()> {
    let _session = session(Builder::new());
    let (one, other) = (Keeper::remote(), Keeper::remote());
    get_timeout((one.meet(other.clone()), other.meet(one.clone())), SOON)?;
    let object = one.ask_later();
    let causes = [Cause::Get, Cause::Get, Cause::ActorQueue, Cause::Circle];
    let told = explained(Some(&object.to_string()), &causes);
    tells(
        &told,
        &["`Keeper::ask_later` awaits object-", "`Keeper::ask_back_later` awaits object-"],
    );
    assert!(told.steps[3].text.contains("`Keeper::ask_later` again: a circle of task-"), "{told}");
    kill(&one);
    assert!(get_timeout(object, SOON).is_err());
    assert_eq!(get_timeout(other.give(), SOON)?, 1, "the other one lives on");
    Ok(())
}

fn worker() -> Result<()> {
    let gate = Gate::shut("shared");
    let _session = session(Builder::new());
    let object = twice::remote(21);
    let told = explained(Some(&object.to_string()), &[Cause::Worker]);
    tells(&told, &["`twice` may run, and waits for a worker process to start"]);
    let keeper = Keeper::remote();
    let call = keeper.same(7);
    let told = explained(Some(&call.to_string()), &[Cause::ActorQueue, Cause::Worker]);
    tells(&told, &["takes no calls yet", "`Keeper` waits for a worker process to start"]);
    let error = get_timeout(&object, Duration::from_millis(1)).unwrap_err().to_string();
    assert!(error.contains("waits for a worker process to start"), "{error}");
    gate.open();
    assert_eq!(get_timeout((object, call), SOON)?, (42, 7));
    Ok(())
}

fn worker_of_gpus() -> Result<()> {
    let gate = Gate::shut("gpus");
    let _session = session(Builder::new().num_gpus(3));
    assert_eq!(get_timeout(twice::remote(1), SOON)?, 2, "other workers are there");
    let keeper = Keeper::options().num_gpus(2.0).remote();
    let call = keeper.same(7);
    let told = explained(Some(&call.to_string()), &[Cause::ActorQueue, Cause::Worker]);
    tells(&told, &["takes no calls yet", "`Keeper` waits for a worker process of GPUs "]);
    let object = twice::options().num_gpus(1.0).remote(21);
    let told = explained(Some(&object.to_string()), &[Cause::Worker]);
    tells(&told, &["`twice` may run, and waits for a worker process of GPU "]);
    gate.open();
    assert_eq!(get_timeout((object, call), SOON)?, (42, 7));
    Ok(())
}
