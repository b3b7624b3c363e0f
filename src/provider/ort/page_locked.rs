//! Page-locked memory: the CPU sees it, and a provider's device reads and writes it by itself, without a copy in between.
//!
//! A device may still read what was bound when binding returns. It has read and written everything when the run returns for
//! which that was bound, and only then is it written or read here again.

use super::api::{OrtError, Owned, check};
use super::library::Library;
use ort_sys::{
    OrtAllocator, OrtAllocatorType, OrtDeviceMemoryType, OrtMemoryInfo, OrtMemoryInfoDeviceType, OrtSession,
};
use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

// SAFETY: the C API serves the functions of a session, and of its allocators, to any number of threads at the same time.
unsafe impl Sync for Owned<OrtSession> {}
// SAFETY: as above.
unsafe impl Sync for Owned<OrtAllocator> {}

/// What a session allocates such memory with. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Allocator {
    own: Owned<OrtAllocator>,
    _session: Arc<Owned<OrtSession>>,
    library: Library,
}

impl Allocator {
    /// That of the device that has `memory`, which is the session's; for the CPU its own. `None` if the session has none.
    pub(super) fn beside(
        memory: *const OrtMemoryInfo,
        name: &CStr,
        session: &Arc<Owned<OrtSession>>,
        library: &Library,
    ) -> Option<Arc<Allocator>> {
        let api = library.api;
        let (mut device, mut id) = (OrtMemoryInfoDeviceType::OrtMemoryInfoDeviceType_CPU, 0);
        // SAFETY: the information is alive, `device` is writable.
        unsafe { (api.MemoryInfoGetDeviceType)(memory, &raw mut device) };
        // SAFETY: the information is alive, `id` is writable.
        check(api, unsafe { (api.MemoryInfoGetId)(memory, &raw mut id) }).ok()?;
        // SAFETY: the information is alive.
        let vendor = unsafe { (api.MemoryInfoGetVendorId)(memory) };
        let kind = match device {
            OrtMemoryInfoDeviceType::OrtMemoryInfoDeviceType_CPU => {
                OrtDeviceMemoryType::OrtDeviceMemoryType_DEFAULT
            }
            _ => OrtDeviceMemoryType::OrtDeviceMemoryType_HOST_ACCESSIBLE,
        };
        // A session finds its allocators by device, and not by name, of which CreateMemoryInfo does not know all.
        let wanted = Owned::new(api, api.ReleaseMemoryInfo, |out| {
            let by = OrtAllocatorType::OrtDeviceAllocator;
            // SAFETY: the name ends in a zero, `out` is writable.
            unsafe { (api.CreateMemoryInfo_V2)(name.as_ptr(), device, vendor, id, kind, 0, by, out) }
        });
        let wanted = wanted.ok()?;
        let own = Owned::new(api, api.ReleaseAllocator, |out| {
            // SAFETY: session and information are alive, `out` is writable.
            unsafe { (api.CreateAllocator)(session.ptr, wanted.ptr, out) }
        });
        let (session, library) = (Arc::clone(session), library.clone());
        Some(Arc::new(Allocator { own: own.ok()?, _session: session, library }))
    }

    /// So many zeros; `None` if there is no memory for them, or it can not hold elements of all types.
    pub(super) fn zeros(self: &Arc<Allocator>, bytes: usize) -> Option<PageLocked> {
        let api = self.library.api;
        let mut start: *mut c_void = ptr::null_mut();
        // SAFETY: the allocator is alive, `start` is writable.
        check(api, unsafe { (api.AllocatorAlloc)(self.own.ptr, bytes, &raw mut start) }).ok()?;
        let memory = PageLocked { start: NonNull::new(start.cast())?, bytes, allocator: Arc::clone(self) };
        if !memory.start.cast::<u64>().is_aligned() {
            return None;
        }
        // SAFETY: so many bytes were allocated, and nobody else knows of them yet.
        unsafe { memory.start.write_bytes(0, bytes) };
        Some(memory)
    }
}

/// Some of it, which keeps the session that it is of.
#[derive(Debug)]
pub(in crate::provider) struct PageLocked {
    start: NonNull<u8>,
    bytes: usize,
    allocator: Arc<Allocator>,
}

// SAFETY: the memory is this one's alone, and is freed by any thread.
unsafe impl Send for PageLocked {}

impl PageLocked {
    /// Where it is, as the library knows it. That lives as long as the memory.
    pub(super) fn info(&self) -> Result<*const OrtMemoryInfo, OrtError> {
        let api = self.allocator.library.api;
        let mut info = ptr::null();
        // SAFETY: the allocator is alive, `info` is writable.
        check(api, unsafe { (api.AllocatorGetInfo)(self.allocator.own.ptr, &raw mut info) })?;
        Ok(info)
    }
}

impl std::ops::Deref for PageLocked {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes were allocated and written, and are freed when this is dropped.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl std::ops::DerefMut for PageLocked {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for PageLocked {
    fn drop(&mut self) {
        let api = self.allocator.library.api;
        // SAFETY: the memory is of this allocator, and not used again.
        let freed = unsafe { (api.AllocatorFree)(self.allocator.own.ptr, self.start.as_ptr().cast()) };
        // There is nobody to tell.
        check(api, freed).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::super::open::open_beside;
    use super::super::resident::tests::fetched;
    use super::super::{Choice, update};
    use super::*;
    use crate::provider::external::Element;
    use ort_sys::OrtMemType;

    /// With the CPU's own allocator, by the way that those of devices take. The CPU has none of a GPU's.
    #[test]
    fn it_is_zeros_which_keep_their_session() {
        let Some(path) = fetched() else { return };
        let library = Library::find(Some(&path)).expect("a library");
        let copy = update::copy(Element::F32);
        let session = open_beside(&library, &Choice::default(), 1, &copy).expect("a session");
        let session = Arc::new(session.expect("nodes that the CPU takes"));
        let beside = |name: &CStr| {
            let api = library.api;
            let info = Owned::new(api, api.ReleaseMemoryInfo, |out| {
                let (by, kind) = (OrtAllocatorType::OrtDeviceAllocator, OrtMemType::OrtMemTypeDefault);
                // SAFETY: the name ends in a zero, `out` is writable.
                unsafe { (api.CreateMemoryInfo)(name.as_ptr(), by, 0, kind, out) }
            });
            Allocator::beside(info.expect("a memory").ptr, name, &session, &library)
        };
        assert!(beside(c"Cuda").is_none());
        let allocator = beside(c"Cpu").expect("an allocator");
        drop((session, library));
        // Twice, so that what was written before is there again.
        for bytes in [1, 7, 4096, 1 << 20, 1, 7, 4096, 1 << 20] {
            let mut memory = allocator.zeros(bytes).expect("memory");
            assert!(memory.len() == bytes && memory.iter().all(|&byte| byte == 0), "{bytes}");
            memory.fill(255);
        }
        assert!(allocator.zeros(0).is_none());
        let mut last = allocator.zeros(64).expect("memory");
        drop(allocator);
        last.fill(255);
    }
}
