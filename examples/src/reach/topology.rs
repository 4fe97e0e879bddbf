//! Reach as a topology: one call fans out, one number comes back.
//!
//! ```text
//!  request, url        request, tweeter       request, follower       request, count     request, reach
//! ------------> x4 -------------------> x12 -------------------> x6 ---------------> x3 ------------->
//!          GetTweeters    shuffle      GetFollowers   fields    PartialUniquer  fields  CountAggregator
//!                                                (request, follower)           (request)
//! ```
//!
//! The same follower of the same request always comes to the same uniquer, so each counts its own
//! distinct followers, and the sum of these counts is the reach. Uniquers and aggregators act when
//! they are told that a request is *finished*: that all tuples of it have arrived.
//!
//! # Budget
//! Per follower record: one hash of two integers and a move of 16 bytes into a batch, then a move of 4
//! bytes into the request's list and a look at a stamp. The program that does without any topology needs a look
//! at a stamp.

use std::sync::Arc;

use hashbrown::HashMap;
use rapidhash::fast::RandomState;
use raybolt::drpc::{DrpcBuildError, DrpcRequest, LinearDrpcTopologyBuilder, LocalDrpc, RequestId};
use raybolt::topology::{Batch, Bolt, BoltError, Collector, Topology, Tuple};

use super::distinct::{Stamps, Users};
use super::{Csr, Data};

/// The name of the function that the topology serves.
pub const FUNCTION: &str = "reach";

/// The topology, which serves [`FUNCTION`] at `drpc` while it runs.
///
/// # Errors
/// None that we know of: the description does not depend on the data.
pub fn topology(data: &Arc<Data>, drpc: &LocalDrpc) -> Result<Topology, DrpcBuildError> {
    let mut builder = LinearDrpcTopologyBuilder::new(FUNCTION);
    builder.add_bolt(GetTweeters { data: Arc::clone(data) }, 4);
    builder.add_bolt(GetFollowers { data: Arc::clone(data) }, 12).shuffle_grouping();
    builder.add_bolt(PartialUniquer::new(data.users()), 6).fields_grouping(["request", "follower"]);
    builder.add_bolt(CountAggregator::default(), 3).fields_grouping(["request"]);
    builder.create_local_topology(drpc)
}

/// Somebody who tweeted the URL.
#[derive(Debug, Clone, Tuple)]
struct Tweeter {
    request: RequestId,
    tweeter: u32,
}

/// Somebody who follows one of the tweeters; for who follows many, many times.
#[derive(Debug, Clone, Tuple)]
struct Follower {
    request: RequestId,
    follower: u32,
}

/// How many distinct followers one uniquer saw.
#[derive(Debug, Clone, Tuple)]
struct PartialCount {
    request: RequestId,
    count: u64,
}

/// The answer.
#[derive(Debug, Clone, Tuple)]
struct Answer {
    request: RequestId,
    reach: u64,
}

/// Finds who tweeted a URL.
#[derive(Debug, Clone)]
struct GetTweeters {
    data: Arc<Data>,
}

impl Bolt for GetTweeters {
    type In = DrpcRequest;
    type Out = Tweeter;

    fn execute(&mut self, it: DrpcRequest, out: &mut Collector<Tweeter>) -> Result<(), BoltError> {
        let request = it.request;
        // A URL that nobody tweeted has no tuples; its request finishes all the same, with 0.
        if let Some(key) = self.data.key(it.text()?) {
            let tweeters = self.data.tweeters().row(key);
            out.emit_all(tweeters.iter().map(|&tweeter| Tweeter { request, tweeter }));
        }
        Ok(())
    }
}

/// Finds who follows a tweeter.
#[derive(Debug, Clone)]
struct GetFollowers {
    data: Arc<Data>,
}

impl Bolt for GetFollowers {
    type In = Tweeter;
    type Out = Follower;

    fn execute(
        &mut self,
        tweeter: Tweeter,
        out: &mut Collector<Follower>,
    ) -> Result<(), BoltError> {
        let Tweeter { request, tweeter } = tweeter;
        let followers = self.data.followers().row(tweeter);
        out.emit_all(followers.iter().map(|&follower| Follower { request, follower }));
        Ok(())
    }

    fn execute_batch(
        &mut self,
        batch: &mut Batch<Tweeter>,
        out: &mut Collector<Follower>,
    ) -> Result<(), BoltError> {
        fetch(self.data.followers(), batch);
        while let Some(tweeter) = batch.next(out) {
            self.execute(tweeter, out)?;
        }
        Ok(())
    }
}

/// Has the beginnings of all lists brought to the cache at once, where reading one list after the other
/// would wait for each. It halves the time that this bolt takes.
fn fetch(followers: &Csr, tweeters: &Batch<Tweeter>) {
    let first = |it: &Tweeter| followers.row(it.tweeter).first().copied().unwrap_or(0);
    std::hint::black_box(tweeters.iter().map(first).fold(0, u32::wrapping_add));
}

/// Counts the distinct followers among those that come to it.
#[derive(Debug, Clone)]
struct PartialUniquer {
    /// For each open request, the place of its list.
    places: HashMap<RequestId, usize, RandomState>,
    lists: Vec<Users>,
    /// Places that no request has; their lists keep some memory for the next ones.
    free: Vec<usize>,
    stamps: Stamps,
}

/// A list that grew larger gives its memory back when its request is over.
const KEPT_USERS_MAX: usize = 1 << 14;

impl PartialUniquer {
    /// One for users below `users`.
    fn new(users: usize) -> PartialUniquer {
        PartialUniquer {
            places: HashMap::default(),
            lists: Vec::new(),
            free: Vec::new(),
            stamps: Stamps::new(users),
        }
    }

    fn place(&mut self, request: RequestId) -> usize {
        *self.places.entry(request).or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.lists.push(Users::default());
                self.lists.len() - 1
            })
        })
    }

    /// Drops what is held for a request; its distinct followers.
    fn take(&mut self, request: RequestId) -> u64 {
        let Some(place) = self.places.remove(&request) else { return 0 };
        let list = &mut self.lists[place];
        let count = list.count(&mut self.stamps);
        if list.capacity() <= KEPT_USERS_MAX {
            list.clear();
        } else {
            *list = Users::default();
        }
        self.free.push(place);
        count
    }
}

impl Bolt for PartialUniquer {
    type In = Follower;
    type Out = PartialCount;
    const WANTS_FINISHED: bool = true;

    fn execute(
        &mut self,
        tuple: Follower,
        _: &mut Collector<PartialCount>,
    ) -> Result<(), BoltError> {
        let place = self.place(tuple.request);
        self.lists[place].push(tuple.follower, &mut self.stamps);
        Ok(())
    }

    fn execute_batch(
        &mut self,
        batch: &mut Batch<Follower>,
        out: &mut Collector<PartialCount>,
    ) -> Result<(), BoltError> {
        // Followers of one request come in rows, so its list is looked up once for several.
        while let Some(row) = batch.next_run(out) {
            let Some(request) = row.request_id() else { continue };
            let place = self.place(request);
            let list = &mut self.lists[place];
            for Follower { follower, .. } in row {
                list.push(follower, &mut self.stamps);
            }
        }
        Ok(())
    }

    fn finished(
        &mut self,
        request: RequestId,
        out: &mut Collector<PartialCount>,
    ) -> Result<(), BoltError> {
        let count = self.take(request);
        out.emit(PartialCount { request, count });
        Ok(())
    }

    fn abandoned(&mut self, request: RequestId) {
        self.take(request);
    }
}

/// Adds up what the uniquers counted.
#[derive(Debug, Clone, Default)]
struct CountAggregator {
    sums: HashMap<RequestId, u64, RandomState>,
}

impl Bolt for CountAggregator {
    type In = PartialCount;
    type Out = Answer;
    const WANTS_FINISHED: bool = true;

    fn execute(
        &mut self,
        partial: PartialCount,
        _: &mut Collector<Answer>,
    ) -> Result<(), BoltError> {
        *self.sums.entry(partial.request).or_default() += partial.count;
        Ok(())
    }

    fn finished(
        &mut self,
        request: RequestId,
        out: &mut Collector<Answer>,
    ) -> Result<(), BoltError> {
        let reach = self.sums.remove(&request).unwrap_or(0);
        out.emit(Answer { request, reach });
        Ok(())
    }

    fn abandoned(&mut self, request: RequestId) {
        self.sums.remove(&request);
    }
}
