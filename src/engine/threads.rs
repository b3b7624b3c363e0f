//! rayon's pool as the engine's threads.

extern crate std;

use super::Threads;

/// A pool of threads. Sessions may share one.
#[derive(Debug)]
pub struct Pool(rayon::ThreadPool);

impl Pool {
    /// # Errors
    /// If the system refuses the threads.
    pub fn new(threads: usize) -> Result<Pool, rayon::ThreadPoolBuildError> {
        Ok(Pool(rayon::ThreadPoolBuilder::new().num_threads(threads).build()?))
    }

    /// Runs a closure on the pool, so that what it starts there needs no hand-over of its own.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}

impl Threads for Pool {
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        match count {
            0 => {}
            1 => task(0),
            _ => self.0.install(|| halves(0, count, task)),
        }
    }
}

/// Splits the tasks in two until one is left; idle threads steal the larger halves. Joins live on the stack.
fn halves(first: usize, end: usize, task: &(dyn Fn(usize) + Sync)) {
    if end - first == 1 {
        return task(first);
    }
    let middle = first + (end - first) / 2;
    rayon::join(|| halves(first, middle, task), || halves(middle, end, task));
}
