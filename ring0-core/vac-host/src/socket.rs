//! Sockets of the host, and waiting for them.
//!
//! Every socket is non-blocking; the only place that waits is [`wait`], which asks the operator's watch every
//! few milliseconds. Whether something may be connected to is decided before, in [`crate::net`].

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketType, sockopt};
use vac_core::fault::{Error, Result};

use crate::host::Host;
use crate::instance::Watch;
use crate::limits::DATAGRAM_MAX_BYTES;

/// How long one look at the sockets lasts before the watch is asked.
pub(crate) const SLICE: Duration = Duration::from_millis(5);

/// What of a socket is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

/// A socket of the host.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
}

pub(crate) type NetResult<T> = std::result::Result<T, Errno>;

impl Socket {
    /// A new one of the family of `peer_or_own`, a stream or for datagrams.
    pub(crate) fn new(is_v6: bool, kind: SocketType) -> NetResult<Self> {
        let family = if is_v6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let own = Self::from(net::socket(family, kind, None)?)?;
        if is_v6 {
            // WASI has no dual-stack sockets.
            sockopt::set_ipv6_v6only(&own.fd, true)?;
        }
        Ok(own)
    }

    fn from(fd: OwnedFd) -> NetResult<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Self { fd })
    }

    /// `is_reused` is whether the port may be one that a connection of before still keeps.
    pub(crate) fn bind(&self, at: SocketAddr, is_reused: bool) -> NetResult<()> {
        if is_reused && at.port() != 0 {
            sockopt::set_socket_reuseaddr(&self.fd, true)?;
        }
        net::bind(&self.fd, &at)
    }

    pub(crate) fn listen(&self, backlog: i32) -> NetResult<()> {
        // Also where the system chose the port, and not before: two that are bound and do not listen must not have the same one.
        sockopt::set_socket_reuseaddr(&self.fd, true)?;
        net::listen(&self.fd, backlog)
    }

    pub(crate) fn accept(&self) -> NetResult<Self> {
        Self::from(net::accept(&self.fd)?)
    }

    /// Begins to connect; [`Socket::is_connected`] says how it went.
    pub(crate) fn connect(&self, to: SocketAddr) -> NetResult<()> {
        match net::connect(&self.fd, &to) {
            Err(Errno::INPROGRESS) => Ok(()),
            other => other,
        }
    }

    /// Whether the connection stands; an error if it failed, `WOULDBLOCK` if that is not known yet.
    pub(crate) fn is_connected(&self) -> NetResult<()> {
        if !self.is_ready(Interest::Write) {
            return Err(Errno::WOULDBLOCK);
        }
        sockopt::socket_error(&self.fd)?
    }

    pub(crate) fn local(&self) -> NetResult<SocketAddr> {
        SocketAddr::try_from(net::getsockname(&self.fd)?)
    }

    pub(crate) fn peer(&self) -> NetResult<SocketAddr> {
        net::getpeername(&self.fd)?.ok_or(Errno::NOTCONN)?.try_into()
    }

    pub(crate) fn shutdown(&self, how: net::Shutdown) -> NetResult<()> {
        net::shutdown(&self.fd, how)
    }

    /// What has come, at most `max` bytes; none at the end. `WOULDBLOCK` if nothing has.
    pub(crate) fn recv(&self, max: usize) -> NetResult<Vec<u8>> {
        let mut bytes = vec![0; max];
        let (n, _) = net::recv(&self.fd, bytes.as_mut_slice(), RecvFlags::empty())?;
        bytes.truncate(n);
        Ok(bytes)
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> NetResult<usize> {
        net::send(&self.fd, bytes, no_signal())
    }

    pub(crate) fn recv_from(&self) -> NetResult<(Vec<u8>, SocketAddr)> {
        let mut bytes = vec![0; DATAGRAM_MAX_BYTES];
        let (n, _, from) = net::recvfrom(&self.fd, bytes.as_mut_slice(), RecvFlags::empty())?;
        bytes.truncate(n);
        Ok((bytes, from.ok_or(Errno::NOTCONN)?.try_into()?))
    }

    pub(crate) fn send_to(&self, bytes: &[u8], to: SocketAddr) -> NetResult<()> {
        net::sendto(&self.fd, bytes, no_signal(), &to).map(drop)
    }

    pub(crate) fn set_hop_limit(&self, is_v6: bool, hops: u8) -> NetResult<()> {
        match is_v6 {
            true => sockopt::set_ipv6_unicast_hops(&self.fd, Some(hops)),
            false => sockopt::set_ip_ttl(&self.fd, u32::from(hops)),
        }
    }

    pub(crate) fn set_keep_alive(&self, on: bool) -> NetResult<()> {
        sockopt::set_socket_keepalive(&self.fd, on)
    }

    /// Forgets the peer of a socket for datagrams.
    pub(crate) fn disconnect(&self) -> NetResult<()> {
        match net::connect_unspec(&self.fd) {
            // What some systems say when they have done it.
            Err(Errno::AFNOSUPPORT | Errno::INVAL) | Ok(()) => Ok(()),
            other => other,
        }
    }

    /// Whether the next read or write would not wait.
    pub(crate) fn is_ready(&self, interest: Interest) -> bool {
        look(&[(self.fd.as_fd(), interest)], Duration::ZERO).is_some_and(|ready| ready == [true])
    }
}

/// Writing to a connection that the other side closed is an error and not a signal.
fn no_signal() -> SendFlags {
    #[cfg(target_os = "linux")]
    return SendFlags::NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    SendFlags::empty()
}

/// Waits until one of `sockets` is ready or about `limit` is over; which ones are, and how long that took.
pub(crate) fn wait(
    sockets: &[(&Socket, Interest)],
    limit: Option<Duration>,
    watch: &dyn Watch,
) -> Result<(Vec<bool>, Duration)> {
    let fds: Vec<_> = sockets.iter().map(|(socket, interest)| (socket.fd.as_fd(), *interest)).collect();
    let begun = watch.now_ns();
    let mut waited = Duration::ZERO;
    loop {
        if let Some(abort) = watch.stop() {
            return Err(Error::from(abort));
        }
        waited = waited.max(since(watch, begun));
        let left = limit.map_or(SLICE, |limit| limit.saturating_sub(waited).min(SLICE));
        let ready = look(&fds, left).unwrap_or_else(|| vec![false; fds.len()]);
        let is_over = limit.is_some_and(|limit| waited >= limit);
        if ready.contains(&true) || is_over {
            return Ok((ready, waited.max(since(watch, begun))));
        }
        waited += left;
    }
}

fn since(watch: &dyn Watch, begun: u64) -> Duration {
    Duration::from_nanos(watch.now_ns().saturating_sub(begun))
}

/// Which sockets are ready after at most `limit`; `None` if a signal came.
fn look(fds: &[(BorrowedFd<'_>, Interest)], limit: Duration) -> Option<Vec<bool>> {
    let flags = |interest| match interest {
        Interest::Read => PollFlags::IN,
        Interest::Write => PollFlags::OUT,
    };
    let mut polled: Vec<_> = fds.iter().map(|(fd, i)| PollFd::from_borrowed_fd(*fd, flags(*i))).collect();
    let limit = Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
    poll(&mut polled, Some(&limit)).ok()?;
    Some(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// The addresses of `name`, by the host's resolver. It cannot be interrupted, so it runs beside.
pub(crate) fn resolve(name: &str, host: &mut Host) -> Result<std::io::Result<Vec<IpAddr>>> {
    let name = name.to_owned();
    beside(host, move || Ok((name.as_str(), 0).to_socket_addrs()?.map(|at| at.ip()).collect()))
}

/// Waits for one socket, for as long as it takes.
pub(crate) fn wait_for(host: &mut Host, socket: &Socket, interest: Interest) -> Result<()> {
    let (_, waited) = wait(&[(socket, interest)], None, &*host.watch)?;
    host.clock.note_outside(waited);
    Ok(())
}

/// Does `work` on another thread while the watch is asked. If that says to stop, the thread is left behind.
pub(crate) fn beside<T: Send + 'static>(
    host: &mut Host,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<std::io::Result<T>> {
    let (watch, (done, result)) = (&*host.watch, mpsc::channel());
    let begun = watch.now_ns();
    std::thread::spawn(move || drop(done.send(work())));
    loop {
        match result.recv_timeout(SLICE) {
            Ok(result) => {
                let took = since(watch, begun);
                host.clock.note_outside(took);
                return Ok(result);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Ok(Err(std::io::Error::other("the thread ended early")));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if let Some(abort) = watch.stop() {
            return Err(Error::from(abort));
        }
    }
}
