//! x
use raybolt_topology::*;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
#[derive(Clone)]
struct Src { n: u64, done: Arc<AtomicU64>, window: u64, waker: Arc<std::sync::Mutex<Option<Waker>>> }
impl Spout for Src {
    type Out = (RequestId, u64);
    fn open(&mut self, c: &Context) { *self.waker.lock().unwrap() = Some(c.waker()); }
    fn next_tuple(&mut self, out: &mut SpoutCollector<Self::Out>) -> Next {
        if self.n - self.done.load(Relaxed) >= self.window { return Next::Idle; }
        out.emit((RequestId(self.n), self.n));
        self.n += 1;
        Next::Emitted
    }
}
#[derive(Clone)]
struct Pass;
impl Bolt for Pass { type In = (RequestId, u64); type Out = (RequestId, u64);
    fn execute(&mut self, t: Self::In, out: &mut Collector<Self::Out>) -> Result<(), BoltError> { out.emit(t); Ok(()) } }
#[derive(Clone)]
struct Fin;
impl Bolt for Fin { type In = (RequestId, u64); type Out = (RequestId, u64); const WANTS_FINISHED: bool = true;
    fn execute(&mut self, _: Self::In, _: &mut Collector<Self::Out>) -> Result<(), BoltError> { Ok(()) }
    fn finished(&mut self, r: RequestId, out: &mut Collector<Self::Out>) -> Result<(), BoltError> { out.emit((r, 1)); Ok(()) } }
struct Obs { done: Arc<AtomicU64>, waker: Arc<std::sync::Mutex<Option<Waker>>>, window: u64, tx: mpsc::Sender<()> }
impl RequestObserver for Obs {
    fn completed(&self, r: &[RequestId]) {
        self.done.fetch_add(r.len() as u64, Relaxed);
        if self.window == 1 { let _ = self.tx.send(()); } else if let Some(w) = &*self.waker.lock().unwrap() { w.wake(); }
    }
    fn failed(&self, r: RequestId, m: &str) { panic!("{r:?} {m}"); }
}
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s[s.rfind(')').unwrap()+2..].split(' ').collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn run(stages: usize, fin: bool, window: u64, par: usize) {
    let done = Arc::new(AtomicU64::new(0)); let waker = Arc::new(std::sync::Mutex::new(None));
    let (tx, rx) = mpsc::channel();
    let mut b = TopologyBuilder::new();
    b.coordinate(Arc::new(Obs { done: done.clone(), waker: waker.clone(), window, tx }));
    b.set_spout("s0", Src { n: 0, done: done.clone(), window, waker: waker.clone() }, 1);
    for i in 0..stages {
        let (from, id) = (format!("s{i}"), format!("s{}", i + 1));
        if fin { b.set_bolt(&id, Fin, par).fields_grouping(&from, ["0"]); } else { b.set_bolt(&id, Pass, par).shuffle_grouping(&from); }
    }
    let c = LocalCluster::with_threads(2);
    let h = c.submit("r", Config::default(), b).unwrap();
    if window == 1 {
        let mut lat = Vec::new();
        for i in 0..20000 {
            rx.recv().unwrap();
            let w = waker.lock().unwrap().clone();
            let t = Instant::now();
            if let Some(w) = w { w.wake(); }
            if i > 1000 { while done.load(Relaxed) < i as u64 + 2 { std::hint::spin_loop(); } lat.push(t.elapsed()); }
        }
        lat.sort(); println!("stages {stages} fin {fin} latency p50 {:?} p99 {:?}", lat[lat.len()/2], lat[lat.len()*99/100]);
        return;
    }
    std::thread::sleep(Duration::from_millis(200));
    let (t, n, c0) = (Instant::now(), done.load(Relaxed), cpu());
    std::thread::sleep(Duration::from_secs(2));
    let n = done.load(Relaxed) - n;
    println!("stages {stages} fin {fin} window {window} par {par}: {:.0} k requests/s, at 2 cpus {:.0} k; cpu ns per request {:.0}", n as f64 / t.elapsed().as_secs_f64() / 1e3, n as f64 * 2.0 / (cpu() - c0) / 1e3, (cpu()-c0)*1e9 / n as f64);
    let _ = h;
}
fn main() {
    run(1, false, 1000, 1); run(3, false, 1000, 1); run(3, false, 1000, 3); run(3, false, 100, 1); run(3, true, 1000, 1); run(3, true, 1000, 3); run(3, false, 1, 1); run(3, true, 1, 1);
}
