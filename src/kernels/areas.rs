//! Scratch areas of tasks that run at the same time.

#[cfg(target_has_atomic = "32")]
use core::sync::atomic::{AtomicU32, Ordering};

/// A task of a kernel whose tasks have scratch areas.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub task: usize,
    /// Below the number of tasks; no two that run at the same time have the same one.
    pub area: usize,
}

/// The areas that tasks are in. A task takes the lowest one that is free, so that it finds in the caches what the last one there
/// has left, and not memory that nobody has touched for long: one thread needs a single area for all of its tasks.
#[derive(Debug, Default)]
pub struct Areas {
    /// A bit an area.
    #[cfg(target_has_atomic = "32")]
    taken: AtomicU32,
}

impl Areas {
    /// Runs one of up to 32 tasks.
    #[cfg(target_has_atomic = "32")]
    pub fn enter(&self, task: usize, work: impl FnOnce(At)) {
        let mut taken = self.taken.load(Ordering::Relaxed);
        let area = loop {
            let area = taken.trailing_ones();
            let Some(own) = 1u32.checked_shl(area) else {
                // More tasks than areas: one will be free.
                core::hint::spin_loop();
                taken = self.taken.load(Ordering::Relaxed);
                continue;
            };
            // What the last task there has written and read happens before.
            match self.taken.compare_exchange_weak(taken, taken | own, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break area,
                Err(now) => taken = now,
            }
        };
        work(At { task, area: area as usize });
        self.taken.fetch_and(!(1 << area), Ordering::Release);
    }

    /// Where a CPU has no such instructions, each task has its own.
    #[cfg(not(target_has_atomic = "32"))]
    pub fn enter(&self, task: usize, work: impl FnOnce(At)) {
        work(At { task, area: task })
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    extern crate std;

    use super::*;
    use crate::engine::{Pool, Serial, Threads};
    use core::sync::atomic::AtomicUsize;
    use std::vec::Vec;

    #[test]
    fn tasks_one_after_another_share_an_area_and_those_at_the_same_time_do_not() {
        let areas = Areas::default();
        Serial.run(100, &|task| areas.enter(task, |at| assert_eq!([at.task, at.area], [task, 0])));

        let pool = Pool::new(4).expect("threads");
        let inside: Vec<AtomicUsize> = (0..32).map(|_| AtomicUsize::new(0)).collect();
        for _ in 0..100 {
            pool.run(32, &|task| {
                areas.enter(task, |At { area, .. }| {
                    assert!(area < 4, "{area} of four threads");
                    assert_eq!(inside[area].fetch_add(1, Ordering::Relaxed), 0, "nobody else");
                    std::thread::yield_now();
                    inside[area].fetch_sub(1, Ordering::Relaxed);
                });
            });
        }
    }

    #[test]
    fn an_area_within_an_area_is_another_one() {
        let areas = Areas::default();
        areas.enter(0, |outer| areas.enter(1, |inner| assert_eq!([outer.area, inner.area], [0, 1])));
        areas.enter(2, |at| assert_eq!(at.area, 0));
    }
}
