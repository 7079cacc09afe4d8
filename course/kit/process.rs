//! What this process costs: memory, threads, switches, processor time, descriptors.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The number behind a name in `/proc/self/status`; see proc_pid_status(5). `None` where there is
/// no such file: outside of Linux.
pub fn status(name: &str) -> Option<u64> {
    number(&fs::read_to_string("/proc/self/status").ok()?, name)
}

/// The memory of this process that is in use now, in KiB.
pub fn memory_kib() -> Option<u64> {
    status("VmRSS")
}

/// How often a thread of this process has gone to sleep, over all of its threads.
pub fn switches() -> Option<u64> {
    let threads = fs::read_dir("/proc/self/task").ok()?.flatten();
    // A thread may have ended since: it is not counted.
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    Some(texts.filter_map(|text| number(&text, "voluntary_ctxt_switches")).sum())
}

fn number(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// The processor time that this process has used.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Lets this process open so many files, if the system's hard limit allows it. Gives how many it
/// may open now.
pub fn open_files(wanted: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    let Some(current) = now.current.filter(|current| *current < wanted) else { return wanted };
    let wanted = now.maximum.map_or(wanted, |most| most.min(wanted));
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: now.maximum }) {
        Ok(()) => wanted,
        Err(_) => current,
    }
}

/// A stream that gets a byte when this process is told to end: by SIGTERM, or by Ctrl-C.
///
/// # Errors
/// There are no descriptors left.
pub fn told_to_end() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let text = "VmRSSx:\t1 kB\nVmRSS:\t  5120 kB\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(number(text, "VmRSS"), Some(5120));
        assert_eq!(number(text, "voluntary_ctxt_switches"), None);
        assert_eq!(number(text, "VmSwap"), None);
    }

    #[test]
    fn work_takes_processor_time() {
        let before = processor_time();
        while processor_time() == before {
            std::hint::spin_loop();
        }
        assert_eq!(open_files(8), 8, "so many are allowed everywhere");
    }
}
