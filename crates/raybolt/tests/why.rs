//! `why`: each kind of wait is named, and followed to what it comes from.

mod common;

use std::future::{IntoFuture, poll_fn};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use common::{SOON, await_in, let_out, pass, reach, session, session_with};
use raybolt::inspect::{self, Cause, Why, why};
use raybolt::{Builder, ObjectRef, RefStream, Result, get, kill, remote, wait};

#[remote]
fn held(place: &str) -> u64 {
    pass(place);
    1
}

#[remote]
fn sum(a: u64, b: u64) -> u64 {
    a + b
}

/// Waits for a task that it makes itself, which no thread runs in its place.
#[remote]
fn waits(place: &str) -> Result<u64> {
    let inner = held::options().num_gpus(1.0).remote(place);
    await_in(place, 1);
    get(&inner)
}

#[remote]
fn naturals(place: &str) -> impl Iterator<Item = u64> {
    let place = place.to_owned();
    (0..).inspect(move |number| {
        if *number == 2 {
            reach(&place);
        }
    })
}

#[remote]
async fn awaits(place: String) -> Result<u64> {
    held::remote(place).await
}

#[remote]
async fn awaits_both(place: String) -> Result<u64> {
    let (one, other) = (held::remote(place.clone()), held::remote(place));
    let (mut one, mut other) = (one.into_future(), other.into_future());
    let both = |context: &mut Context<'_>| {
        let is_there =
            one.as_mut().poll(context).is_ready() || other.as_mut().poll(context).is_ready();
        Poll::Ready(is_there)
    };
    assert!(!poll_fn(both).await, "the test lets them out later");
    Ok(one.await? + other.await?)
}

struct Keeper {
    friend: Option<KeeperHandle>,
}

#[remote]
impl Keeper {
    pub fn new(place: String) -> Self {
        if !place.is_empty() {
            pass(&place);
        }
        Keeper { friend: None }
    }

    pub fn meet(&mut self, friend: KeeperHandle) {
        self.friend = Some(friend);
    }

    pub fn keep(&mut self, place: &str) -> u64 {
        pass(place);
        2
    }

    pub fn add(&mut self, x: u64) -> u64 {
        x
    }

    /// Asks the friend, who asks back.
    pub fn ask(&mut self) -> Result<u64> {
        get(self.friend.as_ref().unwrap().ask_back())
    }

    pub fn ask_back(&mut self) -> Result<u64> {
        get(self.friend.as_ref().unwrap().add(1))
    }

    pub async fn ask_later(&mut self) -> Result<u64> {
        self.friend.as_ref().unwrap().ask_back_later().await
    }

    pub async fn ask_back_later(&mut self) -> Result<u64> {
        self.friend.as_ref().unwrap().add(1).await
    }
}

/// Asks until the answer has these causes: what waits may be on its way there.
fn explained(id: &str, causes: &[Cause]) -> Why {
    let late = Instant::now() + SOON;
    loop {
        let told = why(Some(id)).unwrap();
        if told.steps.iter().map(|step| step.cause).collect::<Vec<_>>() == causes {
            return told;
        }
        assert!(Instant::now() < late, "not {causes:?}, but {told:#?}");
        std::thread::yield_now();
    }
}

/// The texts of an answer, in order, contain these.
fn tells(why: &Why, texts: &[&str]) {
    assert_eq!(why.steps.len(), texts.len(), "{why}");
    for (step, text) in why.steps.iter().zip(texts) {
        assert!(step.text.contains(text), "{why}\nwithout {text}");
    }
}

#[test]
fn a_task_that_runs_is_the_root() -> Result<()> {
    let _session = session();
    let object = held::remote("why running");
    await_in("why running", 1);
    let told = explained(&object.to_string(), &[Cause::Running]);
    tells(&told, &[" `held` is running on thread raybolt-"]);
    let_out("why running");
    get(&object)?;
    let told = explained(&object.to_string(), &[Cause::Ended]);
    tells(&told, &["is there"]);
    Ok(())
}

#[test]
fn arguments_are_followed_to_the_task_that_runs() -> Result<()> {
    let _session = session();
    let slow = held::remote("why arguments");
    await_in("why arguments", 1);
    let middle = sum::remote(&slow, 1);
    let last = sum::remote(2, &middle);
    let told = explained(&last.to_string(), &[Cause::Arguments, Cause::Arguments, Cause::Running]);
    let (middle_id, slow_id) = (middle.to_string(), slow.to_string());
    tells(&told, &[&middle_id, &slow_id, "`held` is running"]);
    let depths: Vec<_> = told.steps.iter().map(|step| step.depth).collect();
    assert_eq!(depths, [0, 1, 2]);
    let_out("why arguments");
    assert_eq!(get(last)?, 4);
    Ok(())
}

#[test]
fn a_resource_is_followed_to_the_task_that_holds_it() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(4.0).num_gpus(2));
    let first = held::options().num_gpus(2.0).remote("why resource");
    await_in("why resource", 1);
    let second = sum::options().num_gpus(1.0).remote(1, 2);
    let told = explained(&second.to_string(), &[Cause::Resource, Cause::Holder]);
    tells(&told, &["`sum` needs GPU: 1 (0 of 2 free)", "`held` holds GPU: 2, and runs on thread"]);
    let_out("why resource");
    get((first, second))?;
    Ok(())
}

#[test]
fn a_holder_that_waits_itself_is_followed_too() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(4.0).num_gpus(1).resource("seat", 1.0));
    let first = waits::options().resource("seat", 1.0).remote("why holder");
    await_in("why holder", 1);
    let second = sum::options().resource("seat", 1.0).remote(1, 2);
    let causes = [Cause::Resource, Cause::Holder, Cause::Get, Cause::Running];
    let told = explained(&second.to_string(), &causes);
    let texts =
        ["needs seat: 1", "`waits` holds seat: 1, and waits", "in `get`", "`held` is running"];
    tells(&told, &texts);
    let_out("why holder");
    get((first, second))?;
    Ok(())
}

#[test]
fn an_actor_that_holds_a_resource_is_named() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(2.0).resource("seat", 1.0));
    let first = Keeper::options().resource("seat", 1.0).name("first").remote("");
    get(first.add(1))?;
    let second = Keeper::options().resource("seat", 1.0).remote("");
    let object = second.add(2);
    let causes = [Cause::ActorQueue, Cause::Resource, Cause::Holder];
    let told = explained(&object.to_string(), &causes);
    let texts =
        ["waits for actor-", "needs seat: 1 (0 of 1 free)", "`first` holds seat: 1 as long"];
    tells(&told, &texts);
    drop(first);
    assert_eq!(get(object)?, 2);
    Ok(())
}

#[test]
fn a_full_node_names_who_has_its_cpus() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(1.0));
    let first = held::remote("why cpu");
    await_in("why cpu", 1);
    let second = sum::remote(1, 2);
    let told = explained(&second.to_string(), &[Cause::Resource, Cause::Holder]);
    tells(&told, &["`sum` needs CPU: 1 (0 of 1 free)", "`held` holds CPU: 1, and runs"]);
    let_out("why cpu");
    get((first, second))?;
    Ok(())
}

#[test]
fn a_queue_is_followed_to_the_call_that_runs() -> Result<()> {
    let _session = session();
    let keeper = Keeper::remote("");
    let first = keeper.keep("why queue");
    await_in("why queue", 1);
    let _second = keeper.add(2);
    let third = keeper.add(3);
    let told = explained(&third.to_string(), &[Cause::ActorQueue, Cause::Running]);
    let texts = [
        "`Keeper::add` waits in the queue of actor-1 `Keeper`: 1 call is before it, 1 running",
        "`Keeper::keep` is running on thread raybolt-",
    ];
    tells(&told, &texts);
    tells(
        &explained("actor-1", &[Cause::ActorQueue, Cause::Running]),
        &["is alive", "`Keeper::keep`"],
    );
    let_out("why queue");
    assert_eq!(get((&first, &third))?, (2, 3));
    tells(&explained("actor-1", &[Cause::Idle]), &["has no call to run"]);
    Ok(())
}

#[test]
fn a_call_behind_one_that_waits_for_an_argument_says_so() -> Result<()> {
    let _session = session();
    let keeper = Keeper::remote("");
    let late = held::remote("why order");
    await_in("why order", 1);
    let first = keeper.add(&late);
    let second = keeper.add(5);
    let causes = [Cause::CallerOrder, Cause::Arguments, Cause::Running];
    let told = explained(&second.to_string(), &causes);
    tells(&told, &["of the same caller", "waits for its argument", "`held` is running"]);
    let_out("why order");
    assert_eq!(get((first, second))?, (1, 5));
    Ok(())
}

#[test]
fn an_actor_that_is_being_made_is_named() -> Result<()> {
    let _session = session();
    let keeper = Keeper::remote("why creating");
    await_in("why creating", 1);
    let call = keeper.add(7);
    let told = explained(&call.to_string(), &[Cause::ActorQueue, Cause::Creating]);
    tells(
        &told,
        &["takes no calls yet", "the constructor of actor-1 `Keeper` is running, on thread"],
    );
    let_out("why creating");
    assert_eq!(get(call)?, 7);
    Ok(())
}

#[test]
fn a_constructor_that_waits_for_its_argument_is_followed() -> Result<()> {
    let _session = session();
    let place = name_of_place::remote("why constructor");
    await_in("why constructor", 1);
    let keeper = Keeper::remote(&place);
    let call = keeper.add(8);
    let causes = [Cause::ActorQueue, Cause::Creating, Cause::Get, Cause::Running];
    let told = explained(&call.to_string(), &causes);
    tells(
        &told,
        &["takes no calls", "has not ended", "it waits in `get`", "`name_of_place` is running"],
    );
    let_out("why constructor");
    assert_eq!(get(call)?, 8);
    Ok(())
}

#[remote]
fn name_of_place(place: &str) -> String {
    pass(place);
    String::new()
}

#[test]
fn a_get_of_a_thread_is_listed_and_followed() -> Result<()> {
    let _session = session();
    let object = held::remote("why get");
    await_in("why get", 1);
    let waiter = object.clone();
    let thread = std::thread::Builder::new().name("waiter".into());
    let thread = thread.spawn(move || get(waiter)).unwrap();
    let late = Instant::now() + SOON;
    let told = loop {
        let told = why(None)?;
        if told.steps.len() == 2 {
            break told;
        }
        assert!(Instant::now() < late, "{told}");
        std::thread::yield_now();
    };
    assert_eq!((told.steps[0].cause, told.steps[1].cause), (Cause::Get, Cause::Running));
    tells(&told, &[": thread waiter waits in `get` for object-", "`held` is running"]);
    let id = told.steps[0].id.clone().unwrap();
    explained(&id, &[Cause::Get, Cause::Running]);
    assert_eq!(inspect::status()?.waiting, 1);
    let_out("why get");
    thread.join().unwrap()?;
    let error = why(Some(&id)).unwrap_err().to_string();
    assert!(error.contains("waits no longer, or never did"), "{error}");
    Ok(())
}

#[test]
fn a_wait_says_how_many_it_wants() -> Result<()> {
    let _session = session();
    let objects: [ObjectRef<u64>; 2] = [held::remote("why wait"), held::remote("why wait")];
    await_in("why wait", 2);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&objects, 2, None).map(|(ready, _)| ready.len()));
        let late = Instant::now() + SOON;
        while why(None).unwrap().steps.len() < 2 {
            assert!(Instant::now() < late);
            std::thread::yield_now();
        }
        tells(&why(None).unwrap(), &["waits in `wait` for 2 of 2 objects", "`held` is running"]);
        let_out("why wait");
        assert_eq!(waiter.join().unwrap().unwrap(), 2);
    });
    Ok(())
}

#[test]
fn a_generator_that_nobody_reads_says_so() -> Result<()> {
    let _session = session();
    let stream: RefStream<u64> = naturals::options().stream_buffer(2).remote("why stream");
    common::await_count("why stream", 1);
    let late = Instant::now() + SOON;
    let tasks = || inspect::tasks(&inspect::TaskFilter::default(), 10).unwrap().items;
    let id = tasks()[0].id.clone();
    while why(Some(&id))?.steps[0].cause != Cause::Stream {
        assert!(Instant::now() < late);
        std::thread::yield_now();
    }
    tells(&why(Some(&id))?, &["waits until its stream is read"]);
    drop(stream);
    Ok(())
}

/// Each waits for the other: neither would ever go on, so the one that closes the circle is told.
#[test]
fn actors_that_wait_for_each_other_are_told_who_they_are() -> Result<()> {
    let _session = session();
    let (one, other) = (Keeper::remote(""), Keeper::remote(""));
    get((one.meet(other.clone()), other.meet(one.clone())))?;
    let error = get(one.ask()).unwrap_err().to_string();
    // Who is told is who comes last; the circle begins with what that waits for.
    for method in ["ask", "ask_back", "add"] {
        assert!(error.contains(&format!("`Keeper::{method}`, which waits for ")), "{error}");
    }
    assert!(error.contains(", which waits for the first again"), "{error}");
    assert_eq!(get((one.add(1), other.add(2)))?, (1, 2), "both live on");
    Ok(())
}

#[test]
fn an_async_task_says_what_it_awaits() -> Result<()> {
    let _session = session();
    let object = awaits::remote("why await");
    await_in("why await", 1);
    let told = explained(&object.to_string(), &[Cause::Get, Cause::Running]);
    tells(&told, &["`awaits` awaits object-", "`held` is running on thread"]);
    assert_eq!(inspect::status()?.waiting, 1);
    let_out("why await");
    assert_eq!(get(&object)?, 1);
    assert_eq!(inspect::status()?.waiting, 0);

    let object = awaits_both::remote("why await both");
    await_in("why await both", 2);
    let told = explained(&object.to_string(), &[Cause::Get, Cause::Running]);
    tells(&told, &[" and 1 more for ", "`held` is running on thread"]);
    let_out("why await both");
    assert_eq!(get(object)?, 2);
    Ok(())
}

#[test]
fn a_future_of_a_thread_is_listed_until_it_is_dropped() -> Result<()> {
    let _session = session();
    let object = held::remote("why future");
    await_in("why future", 1);
    let mut waits = object.clone().into_future();
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(why(None)?.steps, [], "nobody has polled it");
    assert!(waits.as_mut().poll(&mut context).is_pending());
    assert!(waits.as_mut().poll(&mut context).is_pending());
    let told = why(None)?;
    tells(&told, &[": a future awaits object-", "`held` is running on thread"]);
    drop(waits);
    assert_eq!(why(None)?.steps, []);
    let_out("why future");
    get(object)?;
    Ok(())
}

/// What is awaited can be given up, so nobody is told that he never goes on; but `why` shows the circle.
#[test]
fn actors_that_await_each_other_are_shown_as_a_circle() -> Result<()> {
    let _session = session();
    let (one, other) = (Keeper::remote(""), Keeper::remote(""));
    get((one.meet(other.clone()), other.meet(one.clone())))?;
    let object = one.ask_later();
    let causes = [Cause::Get, Cause::Get, Cause::ActorQueue, Cause::Circle];
    let told = explained(&object.to_string(), &causes);
    let texts = [
        "`Keeper::ask_later` awaits object-",
        "`Keeper::ask_back_later` awaits object-",
        "`Keeper::add` waits in the queue of actor-1 `Keeper`",
        "`Keeper::ask_later` again: a circle of task-",
    ];
    tells(&told, &texts);
    assert!(!told.to_string().contains("none of them can ever go on"), "{told}");
    kill(&one);
    assert!(get(object).is_err());
    assert_eq!(get(other.add(2))?, 2, "the other one lives on");
    Ok(())
}

#[test]
fn what_is_no_id_and_what_nobody_has_are_told_apart() -> Result<()> {
    let _session = session();
    let object = held::remote("why unknown");
    let error = |id: &str| why(Some(id)).unwrap_err().to_string();
    assert_eq!(
        error("pingu"),
        "`pingu` is no id: they look like task-1f, object-2a, actor-5, group-1 or get-7"
    );
    let text = error("object-11");
    assert!(text.contains("was freed, or never was; did you mean `object-1`?"), "{text}");
    assert!(text.ends_with("(`raybolt list objects` shows those there are)"), "{text}");
    assert!(error("actor-1").contains("is gone, or never was (`raybolt list actors`"));
    let_out("why unknown");
    get(object)?;
    Ok(())
}
