//! Unix sockets as transports.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::{Framed, Limits, Transport};

/// A connected Unix socket; blocking or not makes no difference to a link.
#[derive(Debug)]
pub struct Unix(UnixStream);

/// A link over a Unix socket.
pub type UnixLink = Framed<Unix>;

impl UnixLink {
    /// A link over a socket whose handshake is over.
    pub fn over(stream: UnixStream, limits: Limits) -> Self {
        Framed::new(Unix(stream), limits)
    }
}

impl Transport for Unix {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let bytes = match parts {
            [part] => rustix::net::send(&self.0, part, flags)?,
            _ => {
                let mut nothing = SendAncillaryBuffer::new(&mut []);
                rustix::net::sendmsg(&self.0, parts, &mut nothing, flags)?
            }
        };
        Ok(bytes)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, bytes) = rustix::net::recv(&self.0, buffer, RecvFlags::DONTWAIT)?;
        Ok(bytes)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

impl AsFd for UnixLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport().0.as_fd()
    }
}
