//! The shim's socket: few clients, small buffers, no waiting.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::ShimError;
use crate::durable::FileError;
use crate::wire::{
    self, ErrorCode, Event, Hello, MAX_REQUEST_BYTES, Reply, Request, WIRE_VERSION, WireError,
};

/// Clients at a time. A host needs one, a person at a terminal another.
const MAX_CLIENTS: usize = 16;
/// Unread replies after which a client is given up.
const MAX_UNSENT_BYTES: usize = 64 << 10;

/// A request and who sent it.
pub(super) type Received = (usize, Result<Request, Reply>);

/// The socket and its clients.
#[derive(Debug)]
pub(super) struct Server {
    listener: UnixListener,
    token: String,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    greeted: bool,
    /// The latest record that it was told about, once it watches.
    watching: Option<u64>,
    /// Nothing more is read; it goes when its output is sent.
    closing: bool,
    /// It goes at the next opportunity.
    broken: bool,
}

impl Server {
    /// Binds the socket in the working directory.
    pub(super) fn bind() -> Result<Self, ShimError> {
        let path = Path::new(crate::SOCKET_FILE);
        let token = token()?;
        let token_path = Path::new(crate::TOKEN_FILE);
        crate::durable::write_bytes(token_path, token.as_bytes())?;
        let listener = UnixListener::bind(path).map_err(FileError::io("bind", path))?;
        listener
            .set_nonblocking(true)
            .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)))
            .map_err(FileError::io("prepare", path))?;
        Ok(Self {
            listener,
            token,
            clients: Vec::new(),
        })
    }

    pub(super) fn poll_on<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.push(PollFd::new(&self.listener, PollFlags::IN));
        for client in &self.clients {
            // A client that has hung up stays readable for ever: it must not keep the shim awake.
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !client.closing);
            flags.set(PollFlags::OUT, !client.output.is_empty());
            fds.push(PollFd::new(&client.stream, flags));
        }
    }

    /// Takes in new clients and what all of them have sent. The index names the client in
    /// [`Self::reply`], until the next [`Self::flush`].
    pub(super) fn requests(&mut self) -> Vec<Received> {
        self.accept();
        let mut received = Vec::new();
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.read();
            while let Some(line) = client.next_line() {
                let request = client.parse(&line, &self.token);
                if let Some(request) = request {
                    received.push((index, request));
                }
            }
        }
        received
    }

    /// Answers one request; without a reply the client becomes a watcher.
    pub(super) fn reply(&mut self, client: usize, reply: Option<Reply>) {
        let Some(client) = self.clients.get_mut(client) else {
            return;
        };
        match reply {
            Some(reply) => client.queue(&reply),
            None => client.watching = Some(client.watching.unwrap_or(0)),
        }
    }

    /// Tells watchers about records up to `seq`, unless they are still busy with an earlier event:
    /// then they hear of the latest when they have taken that.
    pub(super) fn notify(&mut self, seq: u64) {
        for client in &mut self.clients {
            if client.output.is_empty() && client.watching.is_some_and(|told| told < seq) {
                client.watching = Some(seq);
                client.queue(&Event::Log { seq });
            }
        }
    }

    /// Sends what can be sent without waiting, and drops who has gone.
    pub(super) fn flush(&mut self) {
        for client in &mut self.clients {
            client.write();
        }
        self.clients
            .retain(|client| !client.broken && (!client.closing || !client.output.is_empty()));
    }

    /// Sends the last event to watchers and gives everybody until `patience` to take what is theirs.
    pub(super) fn farewell(&mut self, event: &Event, patience: Duration) {
        for client in &mut self.clients {
            if client.watching.is_some() {
                client.queue(event);
            }
        }
        let deadline = Instant::now() + patience;
        loop {
            self.flush();
            let mut fds: Vec<PollFd<'_>> = self
                .clients
                .iter()
                .filter(|client| !client.output.is_empty())
                .map(|client| PollFd::new(&client.stream, PollFlags::OUT))
                .collect();
            let left = deadline.saturating_duration_since(Instant::now());
            if fds.is_empty() || left.is_zero() {
                return;
            }
            let left = Timespec {
                tv_sec: 0,
                tv_nsec: left.subsec_nanos().into(),
            };
            match rustix::event::poll(&mut fds, Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn accept(&mut self) {
        // An error is a client that has gone again, or none: neither is of interest.
        while let Ok((stream, _)) = self.listener.accept() {
            if !is_allowed(&stream) || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.clients.len() >= MAX_CLIENTS && !self.evict_stranger() {
                let mut client = Client::new(stream);
                client.refuse(
                    ErrorCode::Busy,
                    "this shim serves enough clients".to_owned(),
                );
                client.write();
                continue;
            }
            self.clients.push(Client::new(stream));
        }
    }

    /// Makes room at the cost of the oldest client that has not shown the token.
    fn evict_stranger(&mut self) -> bool {
        match self.clients.iter().position(|client| !client.greeted) {
            Some(index) => {
                self.clients.remove(index);
                true
            }
            None => false,
        }
    }
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            greeted: false,
            watching: None,
            closing: false,
            broken: false,
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; MAX_REQUEST_BYTES];
        while !self.closing && !self.broken && self.input.len() < MAX_REQUEST_BYTES {
            match self.stream.read(&mut buffer) {
                // Its requests so far are still answered.
                Ok(0) => self.closing = true,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
    }

    fn next_line(&mut self) -> Option<Vec<u8>> {
        if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            return Some(self.input.drain(..=end).collect());
        }
        if self.input.len() >= MAX_REQUEST_BYTES {
            let message = format!("a request has at most {MAX_REQUEST_BYTES} bytes");
            self.refuse(ErrorCode::TooLong, message);
        }
        None
    }

    /// `None` when the line was dealt with here.
    fn parse(&mut self, line: &[u8], token: &str) -> Option<Result<Request, Reply>> {
        if !self.greeted {
            match serde_json::from_slice::<Hello>(line) {
                Ok(hello) if hello.version == WIRE_VERSION && same(&hello.token, token) => {
                    self.greeted = true;
                }
                _ => self.refuse(
                    ErrorCode::Unauthenticated,
                    format!(
                        "the first line must be version {WIRE_VERSION} and the token of the shim's folder"
                    ),
                ),
            }
            return None;
        }
        Some(serde_json::from_slice(line).map_err(|error| {
            Reply::Error(WireError {
                code: ErrorCode::InvalidRequest,
                message: format!("not a request of version {WIRE_VERSION}: {error}"),
            })
        }))
    }

    /// Says why and ends the connection.
    fn refuse(&mut self, code: ErrorCode, message: String) {
        self.queue(&Reply::Error(WireError { code, message }));
        self.input.clear();
        self.closing = true;
    }

    fn queue<T: serde::Serialize>(&mut self, message: &T) {
        match wire::to_line(message) {
            Ok(line) if self.output.len() + line.len() <= MAX_UNSENT_BYTES => {
                self.output.extend_from_slice(&line);
            }
            // It asks without reading, or the message cannot be said: a client cannot go on.
            _ => self.broken = true,
        }
    }

    fn write(&mut self) {
        while !self.output.is_empty() && !self.broken {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
    }
}

/// Only the shim's own user and root may ask.
fn is_allowed(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
}

/// Takes as long for a wrong token as for a right one.
fn same(left: &str, right: &str) -> bool {
    left.len() == right.len()
        && left
            .bytes()
            .zip(right.bytes())
            .fold(0, |different, (left, right)| different | (left ^ right))
            == 0
}

fn token() -> Result<String, ShimError> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(ShimError::system("read random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
