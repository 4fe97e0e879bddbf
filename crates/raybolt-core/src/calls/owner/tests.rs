use super::*;

type TestOwner = Owner<&'static str>;

const CLASS: ClassId = ClassId(0);

fn submit(
    owner: &mut TestOwner,
    job: &'static str,
    needs: &[ObjectKey],
    retries: u32,
) -> ObjectKey {
    let object = owner.expect();
    owner.submit(Submit {
        target: Target::Class(CLASS),
        job: Some(job),
        needs: needs.into(),
        returns: Returns::One(object),
        retries,
    });
    object
}

fn effects(owner: &mut TestOwner) -> Vec<Effect<&'static str>> {
    std::iter::from_fn(|| owner.poll_effect()).collect()
}

#[test]
fn tasks_run_in_order_and_after_their_arguments() {
    let mut owner = TestOwner::new();
    let a = submit(&mut owner, "a", &[], 0);
    let b = submit(&mut owner, "b", &[], 0);
    submit(&mut owner, "c", &[a, b], 0);
    assert_eq!(owner.queued(CLASS), 2);
    for job in ["a", "b", "c"] {
        let (task, attempt, lent) = owner.lend(CLASS).unwrap();
        assert_eq!(lent, job);
        assert!(owner.finished(task, attempt, true));
    }
    assert_eq!(owner.lend(CLASS), None);
    assert_eq!(owner.counts(), Counts { tasks: 0, objects: 3 });
}

#[test]
fn a_task_whose_argument_is_lost_waits_for_what_takes_its_place() {
    let mut owner = TestOwner::new();
    let x = owner.put();
    let y = submit(&mut owner, "f", &[x], 0);
    let (task, attempt, job) = owner.lend(CLASS).unwrap();
    let again = submit(&mut owner, "again", &[], 0);
    assert_eq!(owner.wait_again(task, attempt, job, &[again]), Retry::Again);
    assert_eq!(owner.wait_again(task, attempt, job, &[again]), Retry::Stale(job));
    assert_eq!(owner.progress(y), Some((Progress::Waiting(1), Target::Class(CLASS))));
    owner.released(again);
    let (other, tried, _) = owner.lend(CLASS).unwrap();
    assert_eq!(owner.lend(CLASS), None);
    assert!(owner.finished(other, tried, true));
    assert_eq!(owner.lend(CLASS), Some((task, attempt, "f")), "it has not begun before");
    assert!(owner.finished(task, attempt, true));
    assert_eq!(owner.holders(again), None);
}

#[test]
fn a_task_whose_argument_cannot_be_made_again_fails() {
    let mut owner = TestOwner::new();
    let y = submit(&mut owner, "f", &[], 3);
    let (task, attempt, job) = owner.lend(CLASS).unwrap();
    let again = submit(&mut owner, "again", &[], 0);
    let (other, tried, _) = owner.lend(CLASS).unwrap();
    assert!(owner.finished(other, tried, false));
    assert_eq!(owner.wait_again(task, attempt, job, &[again]), Retry::Again);
    assert!(effects(&mut owner).contains(&Effect::Fail(task, "f")));
    assert!(owner.finished(task, 0, false));
    assert_eq!(owner.progress(y), None);
}

#[test]
fn an_object_is_freed_when_its_last_holder_lets_go() {
    let mut owner = TestOwner::new();
    let x = owner.put();
    submit(&mut owner, "f", &[x], 0);
    owner.borrowed(x, ProcessId(7));
    owner.released(x);
    assert_eq!(owner.holders(x), Some((false, 1, 1)));
    let (task, attempt, _) = owner.lend(CLASS).unwrap();
    owner.finished(task, attempt, true);
    assert!(!effects(&mut owner).contains(&Effect::Free(x)));
    owner.process_lost(ProcessId(7));
    assert!(effects(&mut owner).contains(&Effect::Free(x)));
    owner.returned(x, ProcessId(7)); // A late message of the dead is not heard.
}

#[test]
fn a_result_nobody_wants_is_freed_when_its_task_ends() {
    let mut owner = TestOwner::new();
    let a = submit(&mut owner, "a", &[], 0);
    owner.released(a);
    let (task, attempt, _) = owner.lend(CLASS).unwrap();
    assert!(owner.finished(task, attempt, true));
    assert_eq!(owner.counts(), Counts::default());
}

#[test]
fn a_failure_reaches_everything_that_depends_on_it() {
    let mut owner = TestOwner::new();
    let a = submit(&mut owner, "a", &[], 0);
    let b = submit(&mut owner, "b", &[a], 0);
    let (task, attempt, _) = owner.lend(CLASS).unwrap();
    owner.finished(task, attempt, false);
    let Some(Effect::Fail(b_task, "b")) = effects(&mut owner).pop() else { panic!("b fails") };
    owner.finished(b_task, 0, false);
    submit(&mut owner, "late", &[b], 0);
    assert!(matches!(effects(&mut owner)[..], [Effect::Fail(_, "late")]));
}

#[test]
fn an_attempt_is_repeated_as_often_as_retries_allow_and_old_ones_are_not_heard() {
    let mut owner = TestOwner::new();
    submit(&mut owner, "a", &[], 1);
    let (task, first, job) = owner.lend(CLASS).unwrap();
    assert_eq!(owner.retry(task, first, job), Retry::Again);
    let (_, second, job) = owner.lend(CLASS).unwrap();
    assert!(!owner.finished(task, first, true));
    assert_eq!(owner.retry(task, first, "copy"), Retry::Stale("copy"));
    assert_eq!(owner.retry(task, second, job), Retry::Exhausted("a"));
    assert!(owner.finished(task, second, false));
    assert!(!owner.finished(task, second, false));
}

#[test]
fn a_task_that_was_lost_before_it_began_is_first_again_and_loses_no_retry() {
    let mut owner = TestOwner::new();
    submit(&mut owner, "a", &[], 0);
    submit(&mut owner, "b", &[], 0);
    let (task, first, job) = owner.lend(CLASS).unwrap();
    assert_eq!(owner.queue_again(task, first, job), Retry::Again);
    assert_eq!(owner.queued(CLASS), 2);
    assert_eq!(owner.queue_again(task, first, "copy"), Retry::Stale("copy"));
    let (again, second, job) = owner.lend(CLASS).unwrap();
    assert_eq!((again, second, job), (task, first + 1, "a"));
    assert_eq!(owner.retries_left(task), Some(0));
    assert!(!owner.finished(task, first, true));
    assert!(owner.finished(task, second, true));
    assert_eq!(owner.queue_again(task, second, "copy"), Retry::Stale("copy"));
}

#[test]
fn a_queued_task_can_be_claimed_once() {
    let mut owner = TestOwner::new();
    let a = submit(&mut owner, "a", &[], 0);
    assert_eq!(owner.claimable(a), Some(CLASS));
    assert!(owner.claim(a).is_some());
    assert_eq!(owner.claim(a), None);
    assert_eq!(owner.lend(CLASS), None);
}

#[test]
fn claimed_tasks_do_not_pile_up_in_their_queue() {
    let mut owner = TestOwner::new();
    for _ in 0..10_000 {
        let a = submit(&mut owner, "a", &[], 0);
        let (task, attempt, _) = owner.claim(a).unwrap();
        owner.finished(task, attempt, true);
        owner.released(a);
        effects(&mut owner);
    }
    assert!(owner.queues[0].len() < 100);
}

#[test]
fn cancelling_finds_a_task_wherever_it_is() {
    let mut owner = TestOwner::new();
    let queued = submit(&mut owner, "queued", &[], 0);
    let lent = submit(&mut owner, "lent", &[], 0);
    let waits = submit(&mut owner, "waits", &[lent], 0);
    let Cancel::Taken(task, "queued") = owner.cancel(queued) else { panic!("it had not started") };
    assert!(owner.finished(task, 0, false));
    assert_eq!(owner.cancel(queued), Cancel::Ended);
    let (task, attempt, _) = owner.lend(CLASS).unwrap();
    assert_eq!(owner.cancel(lent), Cancel::Lent(task));
    let Cancel::Taken(waiting, "waits") = owner.cancel(waits) else { panic!("it had not started") };
    owner.finished(waiting, 0, false);
    assert!(owner.finished(task, attempt, true));
    assert_eq!(owner.counts().tasks, 0);
}

#[test]
fn who_waits_for_a_task_that_is_given_up_need_not_wait_for_its_end() {
    let mut owner = TestOwner::new();
    let a = submit(&mut owner, "a", &[], 0);
    let b = submit(&mut owner, "b", &[a], 0);
    let (task, attempt, _) = owner.lend(CLASS).unwrap();
    assert_eq!(owner.cancel(a), Cancel::Lent(task));
    owner.given_up(a);
    let failing = owner.producer(b).unwrap();
    assert!(effects(&mut owner).contains(&Effect::Fail(failing, "b")));
    assert!(owner.finished(failing, 0, false));
    // Who comes now fails at once, and so does who comes after the task has returned a value.
    let c = submit(&mut owner, "c", &[a], 0);
    assert!(effects(&mut owner).contains(&Effect::Fail(owner.producer(c).unwrap(), "c")));
    assert!(owner.finished(owner.producer(c).unwrap(), 0, false));
    owner.released(a);
    assert!(owner.finished(task, attempt, true));
    owner.released(b);
    owner.released(c);
    assert_eq!(owner.counts(), Counts::default());
}

#[test]
fn what_runs_while_the_process_stops_is_not_tried_again() {
    let mut owner = TestOwner::new();
    let running = submit(&mut owner, "running", &[], 3);
    submit(&mut owner, "waiting", &[running], 3);
    let (task, attempt, job) = owner.lend(CLASS).unwrap();
    let drained = owner.drain();
    assert_eq!(drained.len(), 1);
    assert_eq!(owner.retry(task, attempt, job), Retry::Exhausted("running"));
    assert!(owner.finished(task, attempt, false));
    assert!(owner.finished(drained[0].0, 0, false));
    assert_eq!(owner.counts().tasks, 0);
}

/// The tally is kept, not counted: it must be what counting would give.
#[test]
fn the_tally_follows_every_task_from_its_submission_to_its_end() {
    let mut keys = SlotMap::<ActorKey, ()>::with_key();
    let actor = keys.insert(());
    let mut owner = TestOwner::new();
    let check = |owner: &TestOwner, waiting, queued, running, calls| {
        assert_eq!(owner.tally(), Tally { waiting, queued, running, calls });
        let count = |progress: fn(Progress) -> bool| {
            let tasks = owner.tasks().filter(|task| matches!(task.target, Target::Class(_)));
            tasks.filter(|task| progress(task.progress)).count()
        };
        assert_eq!(count(|progress| matches!(progress, Progress::Waiting(_))), waiting);
        assert_eq!(count(|progress| progress == Progress::Queued), queued);
        assert_eq!(count(|progress| progress == Progress::Running), running);
    };
    let a = submit(&mut owner, "a", &[], 1);
    let b = submit(&mut owner, "b", &[a], 0);
    check(&owner, 1, 1, 0, 0);
    let returns = Returns::One(owner.expect());
    let call =
        Submit { target: Target::Actor(actor), job: None, needs: [a].into(), returns, retries: 0 };
    let (call, _) = owner.submit(call);
    let (task, attempt, job) = owner.lend(CLASS).unwrap();
    check(&owner, 1, 0, 1, 1);
    assert_eq!(owner.retry(task, attempt, job), Retry::Again);
    check(&owner, 1, 1, 0, 1);
    let (task, attempt, _) = owner.claim(a).unwrap();
    check(&owner, 1, 0, 1, 1);
    owner.finished(task, attempt, true);
    check(&owner, 0, 1, 0, 1);
    owner.finished(call, 0, true);
    let Cancel::Taken(task, _) = owner.cancel(b) else { panic!("it is queued") };
    assert_eq!(owner.tally(), Tally { waiting: 1, ..Tally::default() }, "about to be failed");
    owner.finished(task, 0, false);
    check(&owner, 0, 0, 0, 0);
}
