//! A process without a free file descriptor, which is all of this process: the only test here.

mod house;

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use house::{House, WORKER, identity, soon};
use raybolt_wire::door::{Limits, PAUSE};
use raybolt_wire::knock::knock;

#[test]
fn without_descriptors_the_door_waits_and_does_not_spin_and_who_waits_gets_in_after() {
    let house = House::open(Limits::default());
    house.still_works();
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = Some(64);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();

    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    drop(files.pop());
    let began = Instant::now();
    let stranger = UnixStream::connect(house.socket()).unwrap();
    while house.door.stats().paused < 5 {
        std::thread::yield_now();
    }
    // A door that spins pauses more often; slow machines make it less often, never more.
    assert!(began.elapsed() >= PAUSE * 3);

    drop(stranger);
    // Of two descriptors one is ours and one the door's.
    files.truncate(files.len() - 1);
    let (stream, _) = knock(house.socket(), &identity(), WORKER, soon()).unwrap();
    house.guest().answer_to(&stream);
}
