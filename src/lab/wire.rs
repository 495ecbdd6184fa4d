//! Packets on a stream: reads them with bounds, writes bytes.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::observed::Why;
use super::packet::{self, Packet, PacketError};

const CHUNK: usize = 16 * 1024;

/// A stream with what was read from it and is no packet yet.
pub(super) struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
    chunk: Vec<u8>,
    /// Bytes read in all.
    received: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), chunk: vec![0; CHUNK], received: 0 }
    }

    /// The next packet. Nothing is lost if this is dropped before it is done. With `last_byte`, no byte after that one
    /// is read, and the connection is over when there is no whole packet left.
    ///
    /// # Errors
    /// Why the connection is over.
    pub(super) async fn next(&mut self, last_byte: Option<u64>) -> Result<Packet, Why> {
        loop {
            match packet::decode(&self.buffer) {
                Ok(Some((packet, used))) => {
                    self.buffer.drain(..used);
                    return Ok(packet);
                }
                Ok(None) => {}
                Err(PacketError::TooLarge(size)) => return Err(Why::TooLarge(size)),
                Err(error @ PacketError::Malformed(_)) => return Err(Why::Malformed(error.to_string())),
            }
            let room = match last_byte.map(|last| (last, last.saturating_sub(self.received))) {
                Some((last, 0)) => return Err(Why::ClosedAtByte(last)),
                Some((_, left)) => usize::try_from(left).unwrap_or(CHUNK).min(CHUNK),
                None => CHUNK,
            };
            let count = match self.stream.read(self.chunk.get_mut(..room).unwrap_or_default()).await {
                Ok(0) | Err(_) => return Err(Why::ClientGone),
                Ok(count) => count,
            };
            self.received += count as u64;
            self.buffer.extend_from_slice(self.chunk.get(..count).unwrap_or_default());
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Why the connection is over.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Why> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|_: std::io::Error| Why::ClientGone)
    }

    /// Closes for writing and reads what still comes, so that the last word is not lost to a reset.
    pub(super) async fn finish(mut self) {
        if self.stream.shutdown().await.is_ok() {
            while matches!(self.stream.read(&mut self.chunk).await, Ok(count) if count > 0) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 2] = [0xc0, 0];

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn it_stops_at_the_byte_it_is_told() {
        run(async {
            let (mut client, server) = tokio::io::duplex(64);
            let mut wire = Wire::new(server);
            client.write_all(&[PING, PING, PING].concat()).await.unwrap();
            assert_eq!(wire.next(Some(5)).await, Ok(Packet::Ping));
            assert_eq!(wire.next(Some(5)).await, Ok(Packet::Ping));
            assert_eq!(wire.next(Some(5)).await, Err(Why::ClosedAtByte(5)));
        });
    }

    #[test]
    fn bytes_that_come_one_by_one_are_the_same_packets() {
        run(async {
            let (mut client, server) = tokio::io::duplex(1);
            let mut wire = Wire::new(server);
            let (sent, read) = tokio::join!(client.write_all(&PING), wire.next(None));
            assert!(sent.is_ok());
            assert_eq!(read, Ok(Packet::Ping));
            drop(client);
            assert_eq!(wire.next(None).await, Err(Why::ClientGone));
        });
    }
}
