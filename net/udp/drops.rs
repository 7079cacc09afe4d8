//! The number of datagrams that the kernel has thrown away, from its table of sockets.
//!
//! Knows proc_net(5). The kernel also gives the number with each datagram (`SO_RXQ_OVFL`), but then
//! only from the next one that arrives on, and each receiving call takes longer.

use std::fs;
use std::os::fd::AsRawFd;

/// The columns of the table that hold a socket's inode and its number.
const INODE: usize = 9;
const DROPS: usize = 12;

pub(super) fn of(socket: &impl AsRawFd, is_v6: bool) -> Option<u64> {
    let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
    let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    let file = if is_v6 { "udp6" } else { "udp" };
    find(&fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok()?, inode)
}

fn find(table: &str, inode: &str) -> Option<u64> {
    let column = |line: &str, at| line.split_ascii_whitespace().nth(at).map(str::to_owned);
    let line = table.lines().find(|line| column(line, INODE).as_deref() == Some(inode))?;
    column(line, DROPS)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_is_found_in_the_line_of_the_inode() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                     uid  timeout inode ref pointer drops            \n \
                     1234: 0100007F:1B59 00000000:0000 07 00000000:00000000 00:00000000 00000000  \
                     1000        0 41 2 0000000000000000 0         \n \
                     1235: 00000000:0035 00000000:0000 07 00000000:00034B00 00:00000000 00000000     \
                     0        0 42 2 ffff8881 4711        \n";
        assert_eq!((find(table, "41"), find(table, "42")), (Some(0), Some(4711)));
        assert_eq!((find(table, "4"), find(table, "inode"), find("", "1")), (None, None, None));
    }
}
