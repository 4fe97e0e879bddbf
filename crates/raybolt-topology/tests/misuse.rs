//! What users should not do, and do: nothing of it may end the process, or hang without a word.

mod common;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use common::*;
use raybolt_topology::*;

type Number = (u64,);

/// Fails, or panics, before it takes a tuple; from the second call on it takes them.
#[derive(Clone)]
struct Unready {
    calls: u32,
    panics: bool,
    seen: Sender<u64>,
}

impl Bolt for Unready {
    type In = Number;
    type Out = ();

    fn execute(&mut self, (n,): Number, _: &mut Collector<()>) -> Result<(), BoltError> {
        let _ = self.seen.send(n);
        Ok(())
    }
    fn execute_batch(
        &mut self,
        batch: &mut Batch<Number>,
        out: &mut Collector<()>,
    ) -> Result<(), BoltError> {
        self.calls += 1;
        assert!(!self.panics, "never ready");
        if self.calls == 1 {
            return Err(BoltError::new("not ready"));
        }
        while let Some(tuple) = batch.next(out) {
            self.execute(tuple, out)?;
        }
        Ok(())
    }
}

#[test]
fn a_batch_that_fails_before_its_first_tuple_fails_that_one() {
    for panics in [false, true] {
        let (seen, heard) = channel();
        let (spout, fates) = followed([(0u64,), (1,), (2,)]);
        let mut builder = TopologyBuilder::new();
        builder.set_spout("numbers", spout, 1);
        let bolt = Unready { calls: 0, panics, seen };
        builder.set_bolt("unready", bolt, 1).shuffle_grouping("numbers");
        let cluster = LocalCluster::with_threads(1);
        cluster.submit("unready", Config::default(), builder).unwrap();
        let mut fates = take(&fates, 3);
        fates.sort_by_key(|fate| match fate {
            Fate::Acked(id) | Fate::Failed(id, _) => *id,
        });
        if panics {
            assert!(
                fates.iter().all(
                    |fate| matches!(fate, Fate::Failed(_, why) if why.ends_with("never ready"))
                )
            );
        } else {
            let expected = [Fate::Failed(0, "not ready".into()), Fate::Acked(1), Fate::Acked(2)];
            assert_eq!(fates, expected);
            assert_eq!(take(&heard, 2), [1, 2]);
        }
    }
}

#[derive(Clone)]
struct Hasty;

impl AsyncBolt for Hasty {
    type In = Number;
    type Out = ();
    const IN_FLIGHT_MAX: usize = 1;

    fn execute(
        &self,
        (n,): Number,
        _: &mut Emits<()>,
    ) -> impl Future<Output = Result<(), BoltError>> + Send {
        assert!(n > 0, "no future for nothing");
        async { Ok(()) }
    }
}

#[test]
fn a_panic_before_the_future_of_an_async_bolt_fails_the_tuple_alone() {
    let (spout, fates) = followed([(0u64,), (1,)]);
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", spout, 1);
    builder.set_async_bolt("hasty", Hasty, 1).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("hasty", Config::default(), builder).unwrap();
    let fates = take(&fates, 2);
    assert!(matches!(&fates[0], Fate::Failed(0, why) if why.ends_with("no future for nothing")));
    assert_eq!(fates[1], Fate::Acked(1));
}

#[derive(Clone)]
struct Endless {
    begun: Sender<()>,
    dropped: Arc<Sender<&'static str>>,
}

struct Told(Arc<Sender<&'static str>>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

impl AsyncBolt for Endless {
    type In = Number;
    type Out = ();

    async fn execute(&self, _: Number, _: &mut Emits<()>) -> Result<(), BoltError> {
        let _told = Told(self.dropped.clone());
        let _ = self.begun.send(());
        std::future::pending().await
    }
    fn cleanup(&mut self) {
        let _ = self.dropped.send("cleanup");
    }
}

#[test]
fn futures_end_with_their_topology_and_their_bolt_is_cleaned_up() {
    let (begun, begins) = channel();
    let (dropped, drops) = channel();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", given([(0u64,)]), 1);
    let bolt = Endless { begun, dropped: Arc::new(dropped) };
    builder.set_async_bolt("endless", bolt, 1).shuffle_grouping("numbers");
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("endless", Config::default(), builder).unwrap();
    take(&begins, 1);
    assert!(!handle.kill(Duration::ZERO));
    let mut heard = take(&drops, 2);
    heard.sort_unstable();
    assert_eq!(heard, ["cleanup", "dropped"]);
}
