//! System calls that fail: which a program makes, as `strace` has seen it, and how each may fail.

use std::path::Path;

/// How a call may fail: what its man page allows, and behind the bar what tcp(7) and the network
/// add. Of calls that are named twice, the one whose argument fits.
#[rustfmt::skip]
const ERRORS: &[(&str, &str, &str)] = &[
    ("accept4", "", "EAGAIN EBADF ECONNABORTED EFAULT EINTR EINVAL EMFILE ENFILE ENOBUFS ENOMEM \
        ENOTSOCK EOPNOTSUPP EPERM EPROTO | ENETDOWN ENOPROTOOPT EHOSTDOWN ENONET EHOSTUNREACH \
        ENETUNREACH ENOSR ETIMEDOUT"),
    ("bind", "", "EACCES EADDRINUSE EBADF EINVAL ENOTSOCK EADDRNOTAVAIL EFAULT ENOMEM"),
    ("close", "", "EBADF EINTR EIO ENOSPC EDQUOT"),
    ("connect", "", "EACCES EPERM EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF \
        ECONNREFUSED EFAULT EINTR EISCONN ENETUNREACH ENOTSOCK EPROTOTYPE ETIMEDOUT"),
    ("epoll_create1", "", "EINVAL EMFILE ENFILE ENOMEM"),
    ("epoll_ctl", "", "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM"),
    ("epoll_wait", "", "EBADF EFAULT EINTR EINVAL"),
    ("eventfd2", "", "EINVAL EMFILE ENFILE ENODEV ENOMEM"),
    ("fcntl", "F_DUPFD_CLOEXEC", "EBADF EINVAL EMFILE"),
    ("fcntl", "F_GETFL", "EBADF"),
    ("fcntl", "F_SETFD", "EBADF"),
    ("fcntl", "F_SETFL", "EBADF EPERM"),
    ("getpeername", "", "EBADF EFAULT EINVAL ENOBUFS ENOTCONN ENOTSOCK"),
    ("getsockname", "", "EBADF EFAULT EINVAL ENOBUFS ENOTSOCK"),
    ("getsockopt", "", "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK"),
    ("ioctl", "", "EBADF EFAULT EINVAL ENOTTY"),
    ("listen", "", "EADDRINUSE EBADF ENOTSOCK EOPNOTSUPP"),
    ("openat", "", "EACCES EFAULT EINTR EINVAL ELOOP EMFILE ENFILE ENODEV ENOENT ENOMEM ENXIO EPERM"),
    ("prlimit64", ", {", "EFAULT EINVAL EPERM ESRCH"),
    ("recvfrom", "", "EAGAIN EBADF ECONNREFUSED EFAULT EINTR EINVAL ENOMEM ENOTCONN ENOTSOCK | \
        ECONNRESET ETIMEDOUT EHOSTUNREACH"),
    ("rt_sigaction", "", "EFAULT EINVAL"),
    ("rt_sigprocmask", "", "EFAULT EINVAL"),
    ("sendmsg", "", SEND),
    ("sendto", "", SEND),
    ("setsockopt", "", "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK | ENOMEM ENOBUFS"),
    ("shutdown", "", "EBADF EINVAL ENOTCONN ENOTSOCK"),
    ("socket", "", "EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT"),
    ("socketpair", "", "EAFNOSUPPORT EFAULT EMFILE ENFILE EOPNOTSUPP EPROTONOSUPPORT ENOMEM"),
    ("write", "(1, ", "EAGAIN EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC EPERM EPIPE"),
    ("writev", "", SEND),
];
const SEND: &str = "EACCES EAGAIN EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINTR EINVAL \
    EISCONN EMSGSIZE ENOBUFS ENOMEM ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE | ETIMEDOUT EHOSTUNREACH";

/// Calls that are left out, and why.
const LEFT_OUT: &[(&str, &str, &str)] = &[
    ("brk", "", "memory: Rust aborts when there is none"),
    ("fcntl", "F_GETFD", "std's own check of a descriptor before it is closed, in debug builds"),
    ("futex", "", "std's own locks"),
    ("getrandom", "", "std's own, for its tables: where there is no randomness it panics"),
    ("mmap", "", "memory: Rust aborts when there is none"),
    ("mremap", "", "memory: Rust aborts when there is none"),
    ("munmap", "", "memory: the allocator's own"),
    ("poll", "{fd=1", "of the line that says the address: a line that cannot go is dropped"),
    ("write", "(1, \"listening on", "that line: see tests/examples/ending.rs"),
];

/// A call that a recorded run has made.
pub struct Call {
    pub name: String,
    /// The how-manieth of this name, from 1, as `strace --inject=…:when=` counts.
    pub ordinal: usize,
    pub line: String,
}

/// The calls of a recorded run: those of `main` until it listens, and those after.
pub fn recorded(log: &str) -> (Vec<Call>, Vec<Call>) {
    let (mut starting, mut serving) = (Vec::new(), Vec::new());
    let mut counts = std::collections::HashMap::new();
    let (mut main, mut listens) = (false, false);
    for line in log.lines() {
        let line = line.split_once(' ').map_or(line, |(_pid, line)| line.trim_start());
        let Some((name, _)) = line.split_once('(') else { continue };
        let ordinal = counts.entry(name.to_owned()).and_modify(|n| *n += 1).or_insert(1);
        let call = Call { name: name.to_owned(), ordinal: *ordinal, line: line.to_owned() };
        // What comes before is the loader's and the runtime's.
        main |= line.contains("RLIMIT_NOFILE");
        if main && !line.contains("= ? ") {
            if listens { &mut serving } else { &mut starting }.push(call);
        }
        listens |= line.starts_with("write(1, \"listening on");
    }
    (starting, serving)
}

/// What the call did, without what differs from run to run: its name, and an argument that says
/// what is asked for.
pub fn site(call: &Call) -> String {
    let words = call.line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let asks = |word: &&str| {
        ["F_", "EPOLL_CTL_", "SO_", "TCP_", "SHUT_"].iter().any(|asks| word.starts_with(asks))
    };
    match words.skip(1).find(asks) {
        Some(what) => format!("{} {what}", call.name),
        None => call.name.clone(),
    }
}

/// How the call may fail; empty if it is left out.
///
/// # Panics
/// If nobody has thought of this call.
pub fn errors(call: &Call) -> Vec<&'static str> {
    let fits = |(name, argument, _): &&(&str, &str, &'static str)| {
        call.name == *name && call.line.contains(argument)
    };
    if LEFT_OUT.iter().any(|left_out| fits(&left_out)) {
        return Vec::new();
    }
    let Some((.., errors)) = ERRORS.iter().find(fits) else {
        panic!("how does this fail? {}", call.line)
    };
    errors.split_whitespace().filter(|error| *error != "|").collect()
}

/// Whether the fault was injected in this run.
pub fn was_injected(log: &Path) -> bool {
    std::fs::read_to_string(log).is_ok_and(|log| log.contains("(INJECTED)"))
}
