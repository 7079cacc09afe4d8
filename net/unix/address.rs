//! Addresses of Unix sockets: a file, a name without one, or none.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, ErrorKind};
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use socket2::SockAddr;

/// Bytes of `sun_path`, with the zero behind a path or in front of an abstract name; see unix(7).
const SUN_PATH_BYTES: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    108
} else {
    104 // BSD and macOS.
};
/// Bytes of the longest path, and of the longest abstract name.
pub(super) const NAME_BYTES_MAX: usize = SUN_PATH_BYTES - 1;

/// The address of a Unix socket. Shown as it is typed: a path, `@name`, or `unnamed`.
#[derive(Clone)]
pub struct Address(pub(super) SocketAddr);

impl Address {
    /// A socket file.
    ///
    /// # Errors
    /// The path is empty, longer than the system takes (107 bytes on Linux), or contains a zero.
    pub fn path(path: impl AsRef<Path>) -> io::Result<Address> {
        let path = path.as_ref();
        let bytes = path.as_os_str().as_bytes();
        check(bytes, &path.display())?;
        if bytes.contains(&0) {
            return Err(invalid(format!("{}: the path contains a zero byte", path.display())));
        }
        SocketAddr::from_pathname(path).map(Address)
    }

    /// A name in the *abstract* namespace, without a file: it is gone with its socket and has no
    /// permissions. Linux only.
    ///
    /// # Errors
    /// The name is empty or longer than 107 bytes; `Unsupported` on other systems.
    pub fn name(name: impl AsRef<[u8]>) -> io::Result<Address> {
        let name = name.as_ref();
        check(name, &format_args!("@{}", name.escape_ascii()))?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return SocketAddr::from_abstract_name(name).map(Address);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        Err(io::Error::new(ErrorKind::Unsupported, "only Linux has abstract names"))
    }

    /// The path of its file, if it has one.
    pub fn as_path(&self) -> Option<&Path> {
        self.0.as_pathname()
    }

    /// Its abstract name, if it has one.
    pub fn as_name(&self) -> Option<&[u8]> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return self.0.as_abstract_name();
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        None
    }

    /// Returns true if it cannot be sent to: the address of a client that never bound its socket.
    pub fn is_unnamed(&self) -> bool {
        self.0.is_unnamed()
    }

    /// For bind(2) and connect(2): an abstract name has a zero in front.
    pub(super) fn to_sock_addr(&self) -> io::Result<SockAddr> {
        match (self.as_path(), self.as_name()) {
            (Some(path), _) => SockAddr::unix(path),
            (_, Some(name)) => SockAddr::unix(OsStr::from_bytes(&[b"\0", name].concat())),
            _ => Err(ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// An error that names the address.
    pub(super) fn error(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{self}: {error}"))
    }
}

fn check(bytes: &[u8], shown: &dyn fmt::Display) -> io::Result<()> {
    match bytes.len() {
        0 => Err(invalid("the address of a Unix socket is empty".to_owned())),
        1..=NAME_BYTES_MAX => Ok(()),
        count => Err(invalid(format!(
            "{shown}: {count} bytes are too long for a Unix socket, the limit is {NAME_BYTES_MAX}"
        ))),
    }
}

fn invalid(error: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, error)
}

impl PartialEq for Address {
    fn eq(&self, other: &Address) -> bool {
        (self.as_path(), self.as_name()) == (other.as_path(), other.as_name())
    }
}

impl Eq for Address {}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_path(), self.as_name()) {
            (Some(path), _) => path.display().fmt(f),
            (_, Some(name)) => write!(f, "@{}", name.escape_ascii()),
            _ => f.write_str("unnamed"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Values that stand for the [`Address`] of a Unix socket. In a string, a `@` in front makes it an
/// abstract name, on Linux, as ss(8) shows it; a file of such a name is `./@name`. Paths are always
/// files.
pub trait ToAddress {
    /// The address.
    ///
    /// # Errors
    /// As [`Address::path`] and [`Address::name`].
    fn to_address(&self) -> io::Result<Address>;
}

impl ToAddress for Address {
    fn to_address(&self) -> io::Result<Address> {
        Ok(self.clone())
    }
}

impl ToAddress for Path {
    fn to_address(&self) -> io::Result<Address> {
        Address::path(self)
    }
}

impl ToAddress for PathBuf {
    fn to_address(&self) -> io::Result<Address> {
        Address::path(self)
    }
}

impl ToAddress for str {
    fn to_address(&self) -> io::Result<Address> {
        match self.strip_prefix('@') {
            Some(name) if cfg!(any(target_os = "linux", target_os = "android")) => {
                Address::name(name)
            }
            _ => Address::path(self),
        }
    }
}

impl ToAddress for String {
    fn to_address(&self) -> io::Result<Address> {
        self.as_str().to_address()
    }
}

impl<A: ToAddress + ?Sized> ToAddress for &A {
    fn to_address(&self) -> io::Result<Address> {
        (**self).to_address()
    }
}
