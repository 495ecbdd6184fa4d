//! The listening port: it keeps its number while the hub is cut off and nothing listens.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};

use super::connection::serve;
use super::observed::Happening;
use super::shared::Shared;

/// Connections at a time; one more is closed at once.
const MOST: usize = 256;
/// After a failed accept (no descriptors left) or a failed bind.
const PAUSE: Duration = Duration::from_millis(50);

/// A port that is ours.
pub(super) struct Port {
    /// Bound but not listening: nobody else is given the port while no listener is there.
    _holder: TcpSocket,
    pub address: SocketAddr,
}

impl Port {
    /// Takes `address`; port 0 is any.
    ///
    /// # Errors
    /// The port is taken, or may not be.
    pub(super) fn take(address: SocketAddr) -> io::Result<Self> {
        let holder = socket(address)?;
        let address = holder.local_addr()?;
        Ok(Self { _holder: holder, address })
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// Somebody else listens there.
    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        socket(self.address)?.listen(128)
    }

    /// Takes connections until the lab ends; while it is cut off, nothing listens.
    pub(super) async fn accept(self, shared: Arc<Shared>, first: TcpListener) {
        let mut faults = shared.faults.subscribe();
        let mut listener = Some(first);
        loop {
            let cut = faults.borrow_and_update().cut;
            if cut && listener.take().is_some() {
                shared.tell("", Happening::Listening { on: false }).await;
            } else if !cut && listener.is_none() {
                listener = self.listen().ok();
                if listener.is_some() {
                    shared.tell("", Happening::Listening { on: true }).await;
                } else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
            tokio::select! {
                () = shared.ending.cancelled() => return,
                _ = faults.changed() => {}
                accepted = accept(listener.as_ref()) => match accepted {
                    Ok(_) if shared.tasks.len() > MOST => {}
                    Ok(stream) => drop(shared.tasks.spawn(serve(Arc::clone(&shared), stream))),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                },
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => {
            let (stream, _) = listener.accept().await?;
            // Small answers must not wait for one another.
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        None => std::future::pending().await,
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
