//! Scenarios, by hand.

use std::time::Duration;

use super::*;

const WORKER: ProcessId = ProcessId(7);
const DRIVER: ProcessId = ProcessId(1);

struct Node {
    objects: Objects,
    start: Instant,
}

impl Node {
    /// A store of so many units, which spills about two units per file.
    fn new(units: u64) -> Self {
        let spill_file_bytes = Some(2 * ALIGN);
        let options = Options { capacity_bytes: units * ALIGN, spill_file_bytes };
        Node { objects: Objects::new(options), start: start() }
    }

    fn without_disk(units: u64) -> Self {
        let options = Options { capacity_bytes: units * ALIGN, spill_file_bytes: None };
        Node { objects: Objects::new(options), start: start() }
    }

    fn after(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn put(&mut self, key: u64, units: u64) {
        self.put_as(key, units, Standing::Primary);
    }

    fn put_as(&mut self, key: u64, units: u64, standing: Standing) {
        let room = self.objects.taken_now(Purpose::Object, units * ALIGN);
        let (ticket, _) = room.expect("the test has room");
        self.objects.sealed(ticket, Key(key), standing).unwrap();
    }

    fn want(&mut self, units: u64) -> Ticket {
        let deadline = self.after(10);
        self.objects.wanted(Purpose::Object, units * ALIGN, deadline)
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.objects.poll_effect()).collect()
    }
}

/// Some time: what a machine is told, never what a clock says.
pub(super) fn start() -> Instant {
    use std::sync::LazyLock;
    #[expect(clippy::disallowed_methods, reason = "an `Instant` can be had from a clock only")]
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START
}

fn region(start: u64, units: u64) -> Region {
    Region { offset: start * ALIGN, bytes: units * ALIGN }
}

/// OBJ-1.
#[test]
fn what_is_released_leaves_nothing() {
    let mut node = Node::new(8);
    node.put(1, 3);
    node.put(2, 0);
    assert_eq!(node.objects.usage().object_bytes, 4 * ALIGN);
    node.objects.released(Key(1));
    node.objects.released(Key(2));
    node.objects.released(Key(2));
    assert!(node.objects.usage().is_zero());
    assert_eq!(node.effects(), []);
}

/// OBJ-2.
#[test]
fn a_released_object_stays_while_it_is_read() {
    let mut node = Node::new(8);
    node.put(1, 3);
    assert_eq!(node.objects.pinned_now(WORKER, Key(1)), PinNow::Pinned(region(0, 3)));
    node.objects.released(Key(1));
    assert_eq!(node.objects.pinned_now(DRIVER, Key(1)), PinNow::Unknown);
    assert_eq!(node.objects.usage().pinned_bytes, 3 * ALIGN);
    assert!(node.objects.unpinned(WORKER, Key(1)));
    assert!(!node.objects.unpinned(WORKER, Key(1)));
    assert!(node.objects.usage().is_zero());
}

/// OBJ-7.
#[test]
fn half_of_the_store_is_lent_or_one_object_and_what_is_read_already() {
    let mut node = Node::new(8);
    node.put(1, 5);
    node.put(2, 1);
    assert_eq!(node.objects.lent_now(WORKER, Key(1)), LendNow::Pinned(region(0, 5)));
    assert_eq!(node.objects.lent_now(DRIVER, Key(1)), LendNow::Pinned(region(0, 5)));
    assert_eq!(node.objects.lent_now(WORKER, Key(2)), LendNow::TooMuch);
    node.objects.process_lost(WORKER);
    assert_eq!(node.objects.lent_now(DRIVER, Key(2)), LendNow::TooMuch);
    assert!(node.objects.unpinned(DRIVER, Key(1)));
    assert_eq!(node.objects.lent_now(DRIVER, Key(2)), LendNow::Pinned(region(5, 1)));
    assert_eq!(node.objects.lent_now(DRIVER, Key(1)), LendNow::TooMuch);
    assert_eq!(node.objects.lent_now(WORKER, Key(2)), LendNow::Unknown, "it is lost");
    assert_eq!(node.objects.usage().pinned_bytes, ALIGN);
}

/// OBJ-3: the coldest go to disk, several in one file, and come back for a reader.
#[test]
fn the_coldest_primaries_make_room_and_come_back() {
    let mut node = Node::new(4);
    for key in 1..=4 {
        node.put(key, 1);
    }
    assert_eq!(node.objects.pinned_now(DRIVER, Key(1)), PinNow::Pinned(region(0, 1)));
    assert!(node.objects.unpinned(DRIVER, Key(1)));
    let ticket = node.want(2);
    let file = FileId(1);
    assert_eq!(node.effects(), [Effect::Spill(file, vec![region(1, 1), region(2, 1)])]);
    node.objects.spilled(file);
    assert_eq!(node.effects(), [Effect::Admit(ticket, region(1, 2))]);
    let usage = node.objects.usage();
    assert_eq!((usage.spilled_objects, usage.spilled_bytes), (2, 2 * ALIGN));

    node.objects.given_up(ticket);
    assert_eq!(node.objects.pinned_now(WORKER, Key(3)), PinNow::OnDisk);
    let deadline = node.after(1);
    let back = node.objects.pin_wanted(WORKER, Key(3), deadline);
    let to = region(1, 1);
    let restore = Effect::Restore { key: Key(3), file, offset: ALIGN, region: to };
    assert_eq!(node.effects(), [restore]);
    node.objects.restored(Key(3));
    assert_eq!(node.effects(), [Effect::Pinned(back, to)]);

    for key in 1..=4 {
        node.objects.released(Key(key));
    }
    assert_eq!(node.effects(), []);
    node.objects.process_lost(WORKER);
    assert_eq!(node.effects(), [Effect::RemoveFile(file)]);
    assert!(node.objects.usage().is_zero());
}

#[test]
fn what_was_read_back_goes_again_without_being_written() {
    let mut node = Node::new(2);
    node.put(1, 1);
    node.put(2, 1);
    let ticket = node.want(2);
    node.effects();
    node.objects.spilled(FileId(1));
    node.objects.given_up(ticket);
    let deadline = node.after(1);
    node.objects.pin_wanted(DRIVER, Key(1), deadline);
    node.objects.restored(Key(1));
    assert!(node.objects.unpinned(DRIVER, Key(1)));
    node.effects();
    let ticket = node.want(2);
    assert_eq!(node.effects(), [Effect::Admit(ticket, region(0, 2))]);
}

#[test]
fn copies_go_before_primaries() {
    let mut node = Node::new(3);
    node.put(1, 1);
    node.put_as(2, 1, Standing::Copy);
    node.put_as(3, 1, Standing::Copy);
    let ticket = node.want(1);
    assert_eq!(node.effects(), [Effect::Evict(Key(2)), Effect::Admit(ticket, region(1, 1))]);
    assert!(node.objects.contains(Key(1)) && node.objects.contains(Key(3)));
}

#[test]
fn copies_stay_where_dropping_them_would_not_help() {
    let mut node = Node::without_disk(4);
    node.put(1, 2);
    node.put_as(2, 1, Standing::Copy);
    assert_eq!(node.objects.taken_now(Purpose::Object, 3 * ALIGN), None);
    assert!(node.objects.contains(Key(2)));
}

/// OBJ-3, OBJ-4: a full disk.
#[test]
fn a_failed_write_loses_nothing_and_is_told() {
    let mut node = Node::new(2);
    node.put(1, 1);
    node.put(2, 1);
    let ticket = node.want(1);
    node.effects();
    assert_eq!(node.objects.pinned_now(WORKER, Key(1)), PinNow::Pinned(region(0, 1)));
    node.objects.spill_failed(FileId(1));
    assert_eq!(node.effects(), [Effect::Refuse(ticket, Refusal::SpillFailed)]);
    assert_eq!(node.objects.pinned_now(WORKER, Key(2)), PinNow::Pinned(region(1, 1)));
    node.objects.process_lost(WORKER);
    node.objects.released(Key(1));
    let ticket = node.want(1);
    assert_eq!(node.effects(), [Effect::Admit(ticket, region(0, 1))]);
}

/// OBJ-4.
#[test]
fn who_waits_too_long_hears_who_has_the_room() {
    let mut node = Node::new(2);
    node.put(1, 2);
    assert_eq!(node.objects.pinned_now(WORKER, Key(1)), PinNow::Pinned(region(0, 2)));
    let ticket = node.want(1);
    assert_eq!(node.effects(), []);
    assert_eq!(node.objects.next_deadline(), Some(node.after(10)));
    node.objects.deadlines_passed(node.after(9));
    assert_eq!(node.effects(), []);
    node.objects.deadlines_passed(node.after(10));
    let effects = node.effects();
    let [Effect::Refuse(refused, Refusal::Full { bytes: ALIGN, usage })] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!((*refused, usage.pinned_bytes), (ticket, 2 * ALIGN));
    assert_eq!(node.objects.next_deadline(), None);
}

#[test]
fn whoever_asks_hears_what_lies_where_and_who_waits() {
    let mut node = Node::new(2);
    node.put(1, 1);
    node.put(2, 1);
    let ticket = node.want(1);
    node.objects.spilled(FileId(1));
    assert_eq!(node.objects.pinned_now(WORKER, Key(1)), PinNow::OnDisk);
    node.objects.given_up(ticket);
    node.put(3, 2);
    assert_eq!(node.objects.pinned_now(WORKER, Key(3)), PinNow::Pinned(region(0, 2)));
    node.objects.released(Key(3));
    node.want(1);
    let deadline = node.after(1);
    node.objects.pin_wanted(WORKER, Key(2), deadline);
    let waits = [WaitReport::Object(WORKER, Key(2)), WaitReport::Room(ALIGN)];
    assert_eq!(node.objects.wait_reports().collect::<Vec<_>>(), waits);
    assert_eq!(node.objects.usage().waiting, 2);
    let mut reports: Vec<_> = node.objects.reports().collect();
    reports.sort_by_key(|report| report.key);
    let report = |key, units, whereabouts, pins, is_released| ObjectReport {
        key: Key(key),
        bytes: units * ALIGN,
        whereabouts,
        pins,
        is_released,
    };
    let on_disk = |key| report(key, 1, Whereabouts::Disk, 0, false);
    assert_eq!(reports, [on_disk(1), on_disk(2), report(3, 2, Whereabouts::Memory, 1, true)]);
}

/// OBJ-4: at a session's end nobody goes on waiting.
#[test]
fn a_closed_store_lets_nobody_wait() {
    let mut node = Node::new(2);
    node.put(1, 2);
    let ticket = node.want(2);
    node.objects.spilled(FileId(1));
    node.effects();
    let room = node.want(1);
    let deadline = node.after(1);
    let pin = node.objects.pin_wanted(WORKER, Key(1), deadline);
    assert_eq!(node.effects(), []);
    node.objects.closed();
    let refused = [pin, room].map(|ticket| Effect::Refuse(ticket, Refusal::Closed));
    assert_eq!(node.effects(), refused);
    let late = [node.want(1), node.objects.pin_wanted(WORKER, Key(1), deadline)];
    let refused = late.map(|ticket| Effect::Refuse(ticket, Refusal::Closed));
    assert_eq!(node.effects(), refused);
    node.objects.given_up(ticket);
    let ticket = node.want(1);
    assert_eq!(node.effects(), [Effect::Admit(ticket, region(0, 1))], "it takes no wait");
}

#[test]
fn what_can_never_fit_is_refused_at_once() {
    let mut node = Node::new(2);
    let ticket = node.want(3);
    let refusal = Refusal::TooLarge { bytes: 3 * ALIGN, capacity_bytes: 2 * ALIGN };
    assert_eq!(node.effects(), [Effect::Refuse(ticket, refusal)]);
}

/// OBJ-5.
#[test]
fn a_small_wait_passes_a_large_one_that_nothing_can_help() {
    let mut node = Node::without_disk(3);
    node.put(1, 1);
    node.put(2, 2);
    let large = node.want(2);
    let small = node.want(1);
    node.objects.released(Key(1));
    assert_eq!(node.effects(), [Effect::Admit(small, region(0, 1))]);
    node.objects.released(Key(2));
    assert_eq!(node.effects(), [Effect::Admit(large, region(1, 2))]);
}

/// OBJ-5: while a spill is under way nobody is passed over.
#[test]
fn a_small_wait_does_not_pass_a_large_one_that_is_being_helped() {
    let mut node = Node::new(4);
    for key in 1..=4 {
        node.put(key, 1);
    }
    let large = node.want(3);
    let small = node.want(1);
    node.effects();
    node.objects.released(Key(4));
    assert_eq!(node.effects(), []);
    node.objects.spilled(FileId(1));
    assert_eq!(node.effects(), [Effect::Spill(FileId(2), vec![region(2, 1)])]);
    node.objects.spilled(FileId(2));
    let admitted = [Effect::Admit(large, region(0, 3)), Effect::Admit(small, region(3, 1))];
    assert_eq!(node.effects(), admitted);
}

/// OBJ-6.
#[test]
fn a_slab_of_the_dead_is_free_and_what_was_sealed_stays() {
    let mut node = Node::new(16);
    let (slab, room) = node.objects.taken_now(Purpose::Slab(WORKER), 10 * ALIGN).unwrap();
    assert_eq!(room, region(0, 10));
    let seal = |node: &mut Node, key, part| {
        node.objects.sealed_in_slab(WORKER, slab, Key(key), part, Standing::Primary)
    };
    seal(&mut node, 1, Region { offset: 2 * ALIGN, bytes: 65 }).unwrap();
    seal(&mut node, 2, region(0, 1)).unwrap();
    for wrong in [
        region(2, 1),
        region(3, 1),
        region(9, 2),
        region(16, 1),
        Region { offset: 65, bytes: 1 },
        Region { offset: u64::MAX - 63, bytes: u64::MAX },
    ] {
        assert_eq!(seal(&mut node, 3, wrong), Err(SealError::NotInSlab(wrong)));
    }
    assert_eq!(seal(&mut node, 2, region(4, 1)), Err(SealError::KeyTaken(Key(2))));
    let stranger =
        node.objects.sealed_in_slab(DRIVER, slab, Key(4), region(4, 1), Standing::Primary);
    assert_eq!(stranger, Err(SealError::NoSuchRoom(slab)));
    assert_eq!(node.objects.usage().slab_bytes, 7 * ALIGN);

    node.objects.process_lost(WORKER);
    let usage = node.objects.usage();
    assert_eq!((usage.slab_bytes, usage.used_bytes), (0, 3 * ALIGN));
    assert_eq!(node.objects.pinned_now(DRIVER, Key(2)), PinNow::Pinned(region(0, 1)));
    assert!(node.objects.unpinned(DRIVER, Key(2)));
    let late = node.objects.wanted(Purpose::Slab(WORKER), ALIGN, node.start);
    assert_eq!(node.effects(), [Effect::Refuse(late, Refusal::ProcessLost(WORKER))]);
    node.objects.released(Key(1));
    node.objects.released(Key(2));
    assert!(node.objects.usage().is_zero());
}

#[test]
fn a_key_is_not_taken_twice() {
    let mut node = Node::new(4);
    node.put(1, 1);
    let (ticket, _) = node.objects.taken_now(Purpose::Object, ALIGN).unwrap();
    let sealed = node.objects.sealed(ticket, Key(1), Standing::Primary);
    assert_eq!(sealed, Err(SealError::KeyTaken(Key(1))));
    assert_eq!(node.objects.usage().used_bytes, ALIGN, "its room is free");
    let sealed = node.objects.sealed(ticket, Key(2), Standing::Primary);
    assert_eq!(sealed, Err(SealError::NoSuchRoom(ticket)));
}

#[test]
fn an_object_that_is_released_while_it_is_written_is_gone_afterwards() {
    let mut node = Node::new(2);
    node.put(1, 1);
    node.put(2, 1);
    let ticket = node.want(1);
    node.effects();
    node.objects.released(Key(1));
    node.objects.released(Key(2));
    assert_eq!(node.effects(), [], "the file is being written");
    node.objects.spilled(FileId(1));
    let removed = [Effect::RemoveFile(FileId(1)), Effect::Admit(ticket, region(0, 1))];
    assert_eq!(node.effects(), removed);
    node.objects.given_up(ticket);
    assert!(node.objects.usage().is_zero());
}

#[test]
fn an_object_that_cannot_be_read_back_stays_on_disk() {
    let mut node = Node::new(1);
    node.put(1, 1);
    let ticket = node.want(1);
    node.objects.spilled(FileId(1));
    node.objects.given_up(ticket);
    node.effects();
    let deadline = node.after(1);
    let first = node.objects.pin_wanted(DRIVER, Key(1), deadline);
    let second = node.objects.pin_wanted(WORKER, Key(1), deadline);
    assert_eq!(node.effects().len(), 1, "it is read once for both");
    node.objects.restore_failed(Key(1));
    let refusal = Refusal::RestoreFailed(Key(1));
    let refused = [first, second].map(|ticket| Effect::Refuse(ticket, refusal.clone()));
    assert_eq!(node.effects(), refused);
    assert_eq!(node.objects.usage().spilled_objects, 1);
    node.objects.released(Key(1));
    assert!(node.objects.usage().is_zero());
}

#[test]
fn a_million_small_objects_leave_nothing() {
    let mut node = Node::new(1 << 20);
    for key in 0..1_000_000 {
        node.put(key, 1);
    }
    for key in (0..1_000_000).map(|index| index * 7_919 % 1_000_000) {
        node.objects.released(Key(key));
    }
    assert!(node.objects.usage().is_zero());
    assert_eq!(node.objects.free_regions().count(), 1);
}

/// What is read comes first, then the largest; what lies on disk has no room.
#[test]
fn whoever_asks_is_told_who_has_the_room() {
    let mut node = Node::new(16);
    (1..=4).for_each(|key| node.put(key, key));
    assert_eq!(node.objects.pinned_now(WORKER, Key(2)), PinNow::Pinned(region(1, 2)));
    let slab = node.objects.taken_now(Purpose::Slab(WORKER), 3 * ALIGN);
    let (slab, room) = slab.expect("there is room");
    let part = Region { bytes: ALIGN, ..room };
    let standing = Standing::Primary;
    node.objects.sealed_in_slab(WORKER, slab, Key(9), part, standing).unwrap();
    let holders = node.objects.room_holders(3);
    let told: Vec<_> = holders
        .objects
        .iter()
        .map(|holder| (holder.object.key.0, holder.object.bytes / ALIGN, holder.readers.clone()))
        .collect();
    assert_eq!(told, [(2, 2, vec![WORKER]), (4, 4, vec![]), (3, 3, vec![])]);
    assert_eq!(holders.slabs, [(WORKER, 2 * ALIGN)]);
    assert_eq!(holders.usage, node.objects.usage());
    node.want(16);
    while let Some(effect) = node.objects.poll_effect() {
        if let Effect::Spill(file, _) = effect {
            node.objects.spilled(file);
        }
    }
    let left: Vec<_> =
        node.objects.room_holders(9).objects.iter().map(|holder| holder.object.key.0).collect();
    assert_eq!(left, [2]);
}
