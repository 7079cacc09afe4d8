//! Socket files: bound, replaced when stale, removed when their socket goes.
//!
//! Knows files and bind(2); never mentions the loop.
//!
//! A socket's file outlives a process that is killed, and bind(2) refuses a path that exists. So
//! `bind` checks if a file with that path is in use:
//!
//! ```text
//!   bind ──EADDRINUSE──▶ no socket?            left alone: an error
//!                        connect is accepted?  in use: an error
//!                        connect is refused?   stale: removed; bind again
//! ```
//!
//! # Rules
//! 1. Only sockets are ever removed, and only if they are not in use.
//! 2. One at a time: between bind(2) and listen(2) a stream socket refuses connections like a stale
//!    one, and between the check and the removal another may have replaced the file. So all of
//!    that happens under a lock, on Linux: an abstract name, which a crash cannot leave behind.
//!    Only this library respects it; if it is never released, the bind goes on without it.
//! 3. A file is removed with its socket only if it is still the socket's own. While the socket
//!    lives, no other file can have its inode number.
//!
//! # Read next
//! `../descriptor.rs`: streams that are not sockets.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};

use super::address::Address;

/// How often a path is tried when others bind and remove it at the same time.
const ATTEMPTS_MAX: usize = 4;
/// How often the lock is tried before doing without: its holder needs only a few system calls.
const LOCK_ATTEMPTS_MAX: usize = 1000;

/// A file, whatever its name: device and inode.
type Inode = (u64, u64);

/// The file of a bound socket; dropping it removes it. Drop it before the socket is closed.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// Absolute, so that it is found again from another working directory.
    path: PathBuf,
    inode: Inode,
}

/// Binds the socket, gives its file, if it has one, the permissions `mode`, and then lets it
/// `listen`. All errors name the address.
pub(super) fn bind(
    socket: &Socket,
    address: &Address,
    mode: Option<u32>,
    listen: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<Option<SocketFile>> {
    let named = |error: io::Error| address.error(&error);
    let to = address.to_sock_addr().map_err(named)?;
    let Some(path) = address.as_path() else {
        if mode.is_some() {
            let error = format!("{address}: only a socket file has permissions");
            return Err(io::Error::new(ErrorKind::InvalidInput, error));
        }
        socket.bind(&to).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => taken(address, "somebody is there already"),
            _ => named(error),
        })?;
        return listen(socket).map(|()| None).map_err(named);
    };
    let path = std::path::absolute(path).map_err(named)?;
    mode.map_or(Ok(()), |mode| restrict(socket, mode)).map_err(named)?;
    let _lock = lock(&path);
    for _ in 0..ATTEMPTS_MAX {
        match socket.bind(&to) {
            Ok(()) => {
                let inode = inode(&fs::symlink_metadata(&path).map_err(named)?);
                let file = SocketFile { path, inode };
                if let Some(mode) = mode {
                    fs::set_permissions(&file.path, Permissions::from_mode(mode)).map_err(named)?;
                }
                return listen(socket).map(|()| Some(file)).map_err(named);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_stale(socket, address, &path)?;
            }
            Err(error) => return Err(named(error)),
        }
    }
    Err(taken(address, "others bind it at the same time"))
}

impl SocketFile {
    /// Returns true if the path still leads to our socket.
    pub(super) fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| inode(&found) == self.inode)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours()
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

fn inode(file: &Metadata) -> Inode {
    (file.dev(), file.ino())
}

fn taken(address: &Address, why: &str) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, format!("{address}: {why}"))
}

/// Removes the socket at `path`, unless it is in use. It may also have gone by itself.
fn remove_stale(socket: &Socket, address: &Address, path: &Path) -> io::Result<()> {
    let removed = (|| {
        let found = fs::symlink_metadata(path)?;
        if !found.file_type().is_socket() {
            let error = "it exists and is not a socket";
            return Err(io::Error::new(ErrorKind::AlreadyExists, error));
        }
        if is_alive(socket, address)? || inode(&fs::symlink_metadata(path)?) != inode(&found) {
            return Err(io::Error::new(ErrorKind::AddrInUse, "somebody is there already"));
        }
        fs::remove_file(path)
    })();
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| address.error(&error)),
    }
}

/// The lock to hold during a bind in the folder of `path`; `None` where there are no such locks.
fn lock(path: &Path) -> Option<Socket> {
    let (device, inode) = inode(&fs::metadata(path.parent()?).ok()?);
    let name = Address::name(format!("waterwheel/{device:x}/{inode:x}")).ok()?;
    let to = name.to_sock_addr().ok()?;
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).ok()?;
    (0..LOCK_ATTEMPTS_MAX).find(|_| {
        let bound = socket.bind(&to).is_ok();
        if !bound {
            std::thread::yield_now();
        }
        bound
    })?;
    Some(socket)
}

/// Lets the file be made with no more permissions than `mode`: on Linux it gets those of the
/// socket, as far as the umask leaves them. Before listen(2) this does not matter, but a datagram
/// may come at any time.
fn restrict(socket: &Socket, mode: u32) -> io::Result<()> {
    if cfg!(target_os = "linux") {
        let socket = File::from(OwnedFd::from(socket.try_clone()?));
        socket.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Returns true if the file is in use. Checked by connecting, with a socket of the same type: the
/// kernel refuses that if no process listens there.
fn is_alive(socket: &Socket, address: &Address) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, socket.r#type()?, None)?;
    probe.set_nonblocking(true)?; // With a full backlog it would wait.
    match probe.connect(&address.to_sock_addr()?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        // Connected, would have to wait, or is of another type.
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn file_never_has_more_permissions_than_it_will_have() {
        let path = std::env::temp_dir().join(format!("waterwheel-made-{}", std::process::id()));
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap();
        restrict(&socket, 0o600).unwrap();
        socket.bind(&Address::path(&path).unwrap().to_sock_addr().unwrap()).unwrap();
        let mode = fs::metadata(&path).unwrap().mode();
        fs::remove_file(&path).unwrap();
        assert_eq!(mode & 0o777 & !0o600, 0);
    }

    #[test]
    fn permissions_are_set_before_anybody_can_connect() {
        let path = std::env::temp_dir().join(format!("waterwheel-mode-{}", std::process::id()));
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let address = Address::path(&path).unwrap();
        let file = bind(&socket, &address, Some(0o640), |socket| {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
            assert_eq!(
                UnixStream::connect(&path).unwrap_err().kind(),
                ErrorKind::ConnectionRefused
            );
            socket.listen(1)
        });
        assert!(UnixStream::connect(&path).is_ok());
        drop(file);
        assert!(!path.exists());
    }
}
