//! Bugs planted on purpose, so that the simulator can prove that it finds such bugs.
//!
//! A machine holds a [`Plants`] and asks `self.plants.has(Plant::…)` at the place where the bug would
//! sit. Without the feature `plant` the answer is a constant `false` and the value has no size, so the
//! product carries neither the bug nor the question. A machine takes its plants by a constructor
//! (`with_plants`) that exists only with the feature.

use std::fmt;

/// One planted bug; at most one grows in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Plant {
    /// The owner frees an object when the first of its references goes.
    FreeOnFirstRelease,
    /// The owner forgets that a task borrows an object.
    DropBorrow,
    /// The owner forgets a task whose worker died, though retries are left.
    ForgetRetry,
    /// The owner takes the answer of an attempt that was given up.
    HearStale,
    /// The scheduler gives back the CPU of a lease that had given it back already.
    PromiseTwice,
    /// The scheduler sets bundles aside for a placement group that others can have too.
    SetAsideTwice,
    /// The scheduler keeps what a placement group had set aside when it is removed.
    KeepRemoved,
    /// The owner counts the borrows of a process that is dead.
    KeepDeadBorrows,
    /// The owner takes one release of a process for all that it has.
    ReleaseAll,
    /// The owner does not count how often a task is tried again.
    RetryForEver,
    /// The fleet does not name a lease of a worker that is dead.
    KeepDeadLease,
    /// The fleet gives leases to a worker that is dead.
    ServeTheDead,
    /// The fleet counts what is in flight twice.
    CountTwice,
    /// The fleet forgets that a task which waited goes on.
    NeverUnblock,
    /// An actor hears the answers of its earlier incarnations.
    Unfenced,
    /// An actor that begins anew forgets the calls that are to be sent again.
    LoseAtRestart,
    /// An actor that begins anew gets its calls again in the wrong order.
    ResendBackwards,
    /// The store gives away the room of an object that is read while it is spilled.
    SpillPinned,
    /// The store counts what it spilled twice.
    CountSpillTwice,
    /// The store keeps the slab of a process that is dead.
    KeepSlab,
    /// The store keeps what a dead process has pinned.
    KeepDeadPins,
    /// The store lends more than half of itself.
    LendMuch,
    /// The store counts an object anew that somebody reads already.
    LendAnew,
    /// An actor's call passes an earlier one of its caller that waits for an argument.
    Overtake,
    /// A worker keeps what was lent with a body whose loan is the last to go.
    LeakLoan,
    /// A worker counts a borrow for each time a body is read.
    CountReads,
    /// A worker counts only the first loan of an object that it has.
    CountFirstLoan,
    /// A worker asks for a value only once, though it has let it go.
    WantOnce,
    /// A worker believes that all it names ahead will come.
    TrustAhead,
    /// A stream's next attempt begins one item too late.
    SkipItem,
    /// A stream takes an item that an earlier attempt has made.
    TakeTwice,
    /// A stream does not count the items that nobody has taken when it grants room.
    ForgetLying,
    /// A stream does not note who waits for room.
    LoseStall,
    /// A passage does not tell a generator what room its reader has.
    KeepRoom,
    /// An item passes one that waits for the store.
    PassTheLate,
    /// The end of a stream passes items that wait for the store.
    EndEarly,
    /// A generator sends one item more than there is room for.
    SendAhead,
    /// A generator that waits for room does not hear that nobody wants more.
    DeafToStop,
    /// The fleet pushes tasks behind others that a lease on its way was granted for.
    HoardTasks,
    /// The fleet gives a lease to a worker of any kind.
    AnyKind,
    /// The fleet keeps a lease waiting for a worker though its task is gone.
    WaitInVain,
    /// The lineage starts a task again that is on its way already.
    MakeTwice,
    /// The lineage does not count how often a task has made its values again.
    MakeForEver,
    /// The lineage keeps what a record needed that is gone.
    KeepLineage,
    /// The ack tracker tells a spout twice that its tuple was processed.
    AckTwice,
    /// The ack tracker claims a tree done as soon as its spout has reported it.
    AckEarly,
    /// The ack tracker drops a root that timed out without telling its spout.
    LoseReplay,
    /// The batch machine finishes a component while a delivery to it is outstanding.
    FinishEarly,
    /// The batch machine keeps the record of a request that failed.
    LeakBatch,
    /// The broker answers a request twice.
    AnswerTwice,
    /// The broker forgets a request whose subscriber went.
    LoseRedelivery,
}

impl Plant {
    /// All planted bugs, as `--plant list` shows them.
    pub const ALL: &'static [Plant] = &[
        Plant::FreeOnFirstRelease,
        Plant::DropBorrow,
        Plant::ForgetRetry,
        Plant::HearStale,
        Plant::PromiseTwice,
        Plant::SetAsideTwice,
        Plant::KeepRemoved,
        Plant::KeepDeadBorrows,
        Plant::ReleaseAll,
        Plant::RetryForEver,
        Plant::KeepDeadLease,
        Plant::ServeTheDead,
        Plant::CountTwice,
        Plant::NeverUnblock,
        Plant::Unfenced,
        Plant::LoseAtRestart,
        Plant::ResendBackwards,
        Plant::SpillPinned,
        Plant::CountSpillTwice,
        Plant::KeepSlab,
        Plant::KeepDeadPins,
        Plant::LendMuch,
        Plant::LendAnew,
        Plant::Overtake,
        Plant::LeakLoan,
        Plant::CountReads,
        Plant::CountFirstLoan,
        Plant::WantOnce,
        Plant::TrustAhead,
        Plant::SkipItem,
        Plant::TakeTwice,
        Plant::ForgetLying,
        Plant::LoseStall,
        Plant::KeepRoom,
        Plant::PassTheLate,
        Plant::EndEarly,
        Plant::SendAhead,
        Plant::DeafToStop,
        Plant::HoardTasks,
        Plant::AnyKind,
        Plant::WaitInVain,
        Plant::MakeTwice,
        Plant::MakeForEver,
        Plant::KeepLineage,
        Plant::AckTwice,
        Plant::AckEarly,
        Plant::LoseReplay,
        Plant::FinishEarly,
        Plant::LeakBatch,
        Plant::AnswerTwice,
        Plant::LoseRedelivery,
    ];

    /// The name that `--plant` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Plant::FreeOnFirstRelease => "free-on-first-release",
            Plant::DropBorrow => "drop-borrow",
            Plant::ForgetRetry => "forget-retry",
            Plant::HearStale => "hear-stale",
            Plant::PromiseTwice => "promise-twice",
            Plant::SetAsideTwice => "set-aside-twice",
            Plant::KeepRemoved => "keep-removed",
            Plant::KeepDeadBorrows => "keep-dead-borrows",
            Plant::ReleaseAll => "release-all",
            Plant::RetryForEver => "retry-for-ever",
            Plant::KeepDeadLease => "keep-dead-lease",
            Plant::ServeTheDead => "serve-the-dead",
            Plant::CountTwice => "count-twice",
            Plant::NeverUnblock => "never-unblock",
            Plant::Unfenced => "unfenced",
            Plant::LoseAtRestart => "lose-at-restart",
            Plant::ResendBackwards => "resend-backwards",
            Plant::SpillPinned => "spill-pinned",
            Plant::CountSpillTwice => "count-spill-twice",
            Plant::KeepSlab => "keep-slab",
            Plant::KeepDeadPins => "keep-dead-pins",
            Plant::LendMuch => "lend-much",
            Plant::LendAnew => "lend-anew",
            Plant::Overtake => "overtake",
            Plant::LeakLoan => "leak-loan",
            Plant::CountReads => "count-reads",
            Plant::CountFirstLoan => "count-first-loan",
            Plant::WantOnce => "want-once",
            Plant::TrustAhead => "trust-ahead",
            Plant::SkipItem => "skip-item",
            Plant::TakeTwice => "take-twice",
            Plant::ForgetLying => "forget-lying",
            Plant::LoseStall => "lose-stall",
            Plant::KeepRoom => "keep-room",
            Plant::PassTheLate => "pass-the-late",
            Plant::EndEarly => "end-early",
            Plant::SendAhead => "send-ahead",
            Plant::DeafToStop => "deaf-to-stop",
            Plant::HoardTasks => "hoard-tasks",
            Plant::AnyKind => "any-kind",
            Plant::WaitInVain => "wait-in-vain",
            Plant::MakeTwice => "make-twice",
            Plant::MakeForEver => "make-for-ever",
            Plant::KeepLineage => "keep-lineage",
            Plant::AckTwice => "ack-twice",
            Plant::AckEarly => "ack-early",
            Plant::LoseReplay => "lose-replay",
            Plant::FinishEarly => "finish-early",
            Plant::LeakBatch => "leak-batch",
            Plant::AnswerTwice => "answer-twice",
            Plant::LoseRedelivery => "lose-redelivery",
        }
    }

    /// What goes wrong, in one line.
    pub const fn description(self) -> &'static str {
        match self {
            Plant::FreeOnFirstRelease => "an object is freed when the first of its references goes",
            Plant::DropBorrow => "a task's borrow of an object is not counted",
            Plant::ForgetRetry => "a task whose worker died is forgotten though retries are left",
            Plant::HearStale => "the answer of an attempt that was given up ends the task",
            Plant::PromiseTwice => "a blocked task's CPU is given back a second time when it ends",
            Plant::SetAsideTwice => "a bundle is set aside for a group and left to others too",
            Plant::KeepRemoved => "what a removed placement group had set aside does not come back",
            Plant::KeepDeadBorrows => "what a dead process borrowed is never let go",
            Plant::ReleaseAll => {
                "one release of a worker counts for all of its references to an object"
            }
            Plant::RetryForEver => "a task is tried again more often than it may be",
            Plant::KeepDeadLease => "a lease of a dead worker is never given back",
            Plant::ServeTheDead => "a lease is given to a worker that is dead",
            Plant::CountTwice => "what is pushed to a worker is counted twice",
            Plant::NeverUnblock => "a lease whose task waited once gets no more tasks",
            Plant::Unfenced => "an answer of an actor's earlier incarnation is heard",
            Plant::LoseAtRestart => {
                "calls that are to be sent again to a restarted actor are forgotten"
            }
            Plant::ResendBackwards => {
                "calls are sent again to a restarted actor in the wrong order"
            }
            Plant::SpillPinned => "a region that somebody reads is given away after it was spilled",
            Plant::CountSpillTwice => "what lies on disk is counted twice",
            Plant::KeepSlab => "the slab of a dead writer is never taken back",
            Plant::KeepDeadPins => "what a dead process read stays pinned",
            Plant::LendMuch => "more than half of the store is lent to workers",
            Plant::LendAnew => "what somebody reads already has to wait until it may be lent",
            Plant::Overtake => "an actor's call passes an earlier one of its caller that waits",
            Plant::LeakLoan => "what came with a body that is never read is not given back",
            Plant::CountReads => "a body that is read twice gives back twice what was lent",
            Plant::CountFirstLoan => "what was lent twice is given back once",
            Plant::WantOnce => "a value that was let go is never asked for again",
            Plant::TrustAhead => "what was named ahead is not asked for when it does not come",
            Plant::SkipItem => "an attempt of a generator begins behind an item that nobody has",
            Plant::TakeTwice => "an item of a stream is taken twice",
            Plant::ForgetLying => "a stream grants more room than it has",
            Plant::LoseStall => "a generator that waits for room is never told of it",
            Plant::KeepRoom => "room in a stream that a worker reads is not passed on",
            Plant::PassTheLate => "an item of a stream passes one that waits for the store",
            Plant::EndEarly => "the end of a stream passes an item that waits for the store",
            Plant::SendAhead => "a generator sends one item more than there is room for",
            Plant::DeafToStop => "a generator waits for room though nobody wants its items",
            Plant::HoardTasks => "a task is queued behind another while a CPU is on its way for it",
            Plant::AnyKind => "what holds a GPU runs in a process that does not see it",
            Plant::WaitInVain => "a lease waits for a worker though its task is gone",
            Plant::MakeTwice => "a task that makes a lost value again is started a second time",
            Plant::MakeForEver => "a task makes lost values again more often than it may",
            Plant::KeepLineage => "the way to make a value again is kept when nobody needs it",
            Plant::AckTwice => "a processed root tuple is acknowledged twice",
            Plant::AckEarly => "a tree is claimed done as soon as its spout has reported it",
            Plant::LoseReplay => "a root tuple that timed out is neither acked nor failed",
            Plant::FinishEarly => "a component is finished while a delivery to it is outstanding",
            Plant::LeakBatch => "the record of a failed request is never dropped",
            Plant::AnswerTwice => "a request is answered twice",
            Plant::LoseRedelivery => "a request whose subscriber went is never delivered again",
        }
    }

    /// The plant of that name.
    pub fn named(name: &str) -> Option<Plant> {
        Self::ALL.iter().copied().find(|plant| plant.name() == name)
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is planted in a machine: nothing, unless the feature `plant` is on and a bug was chosen.
#[cfg(not(feature = "plant"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plants(());

#[cfg(not(feature = "plant"))]
impl Plants {
    /// Nothing planted.
    pub const NONE: Plants = Plants(());

    /// Whether `plant` grows here: never, without the feature `plant`.
    #[inline(always)]
    pub const fn has(self, _plant: Plant) -> bool {
        false
    }
}

/// What is planted in a machine: nothing, unless a bug was chosen.
#[cfg(feature = "plant")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plants(Option<Plant>);

#[cfg(feature = "plant")]
impl Plants {
    /// Nothing planted.
    pub const NONE: Plants = Plants(None);

    /// With this bug planted.
    pub const fn only(plant: Plant) -> Self {
        Self(Some(plant))
    }

    /// Whether `plant` grows here.
    #[inline]
    pub fn has(self, plant: Plant) -> bool {
        self.0 == Some(plant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plant_is_found_by_its_name() {
        for &plant in Plant::ALL {
            assert_eq!(Plant::named(plant.name()), Some(plant));
            assert!(!plant.description().is_empty());
        }
        assert_eq!(Plant::named("nothing"), None);
    }

    #[cfg(not(feature = "plant"))]
    #[test]
    fn without_the_feature_nothing_is_planted_and_nothing_is_stored() {
        assert_eq!(size_of::<Plants>(), 0);
        assert!(Plant::ALL.iter().all(|&plant| !Plants::NONE.has(plant)));
    }

    #[cfg(feature = "plant")]
    #[test]
    fn with_the_feature_exactly_the_chosen_bug_is_planted() {
        let plants = Plants::only(Plant::AckTwice);
        assert!(plants.has(Plant::AckTwice));
        assert!(!plants.has(Plant::FinishEarly));
        assert!(!Plants::NONE.has(Plant::AckTwice));
    }
}
