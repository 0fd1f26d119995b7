//! A server on this machine that plays the judge: from a cache, or by a rule; with faults on demand
//! (EVALUATION §8).

mod http;
mod script;
mod service;

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

pub use self::{
    script::Script,
    service::{Replies, Service},
};
use crate::EvalError;

/// What the stub's own replies have as system fingerprint, so that they are known as such.
pub(super) const FINGERPRINT: &str = "stub";

/// Whether a judge's name is one that a stub's replies may stand under: `stub`, or one that begins with `stub-`.
pub(super) fn is_stub(judge: &str) -> bool {
    judge == "stub" || judge.starts_with("stub-")
}

/// A server that has its address, but does not answer yet.
pub struct Stub {
    listener: TcpListener,
    address: SocketAddr,
}

impl Stub {
    /// Binds `ADDRESS:PORT` of this machine; port 0 is any that is free.
    ///
    /// # Errors
    /// If the address is none, is not loopback, or cannot be bound.
    pub fn bind(address: &str) -> Result<Self, EvalError> {
        let addresses: Vec<SocketAddr> = address
            .to_socket_addrs()
            .map_err(|error| {
                EvalError::Input(format!("{address}: is no address: {error}\nhint: 127.0.0.1:0"))
            })?
            .collect();
        if addresses.is_empty() || !addresses.iter().all(|address| address.ip().is_loopback()) {
            return Err(EvalError::Input(format!(
                "{address}: other machines could reach this address\nhint: 127.0.0.1:0"
            )));
        }
        let bind = || {
            let listener = TcpListener::bind(&addresses[..])?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|error: std::io::Error| EvalError::Run(format!("{address}: cannot be bound: {error}")))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to give as a judge's base URL.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Answers until the process ends.
    ///
    /// # Errors
    /// If no connection can be accepted any more.
    pub fn serve(self, service: Service) -> Result<(), EvalError> {
        accept(&self.listener, &Arc::new(service), &AtomicBool::new(false))
            .map_err(|error| EvalError::Run(format!("{}: {error}", self.address)))
    }

    /// Answers in the background, until what it gives is dropped.
    #[must_use]
    pub fn start(self, service: Service) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let listener = self.listener;
        let thread = std::thread::spawn(move || {
            if let Err(error) = accept(&listener, &Arc::new(service), &stopped) {
                tracing::warn!("the stub ended: {error}");
            }
        });
        Running { address: self.address, stop, thread: Some(thread) }
    }
}

/// A stub that answers in the background.
pub struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a connection.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, service: &Arc<Service>, stop: &AtomicBool) -> std::io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // That client gave up; the next one may not.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let service = service.clone();
        std::thread::spawn(move || {
            // A client that went away is no failure of the server.
            let _ = service.converse(&stream);
        });
    }
}
