//! The answering side.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{REQUEST_LIMIT, Request, STEP_LIMIT};

/// How many exchanges run at once; more wait in the kernel's queue.
const EXCHANGES: usize = 8;

/// A bound control socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds the socket at `path`, replacing one that a dead agent left; mode 0600.
    ///
    /// # Errors
    /// Those of binding; `AddrInUse` if an agent answers there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers on this socket")),
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers requests until it is cancelled.
pub async fn serve<H, F>(server: Server, handler: H)
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Value> + Send + 'static,
{
    let handler = Arc::new(handler);
    let slots = Arc::new(Semaphore::new(EXCHANGES));
    let mut exchanges = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        while exchanges.try_join_next().is_some() {}
        match server.listener.accept().await {
            Ok((stream, _)) => {
                let handler = Arc::clone(&handler);
                exchanges.spawn(async move {
                    let _slot = slot;
                    if let Err(error) = exchange(stream, handler.as_ref()).await {
                        tracing::debug!(%error, "control exchange failed");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "control socket cannot accept; pausing for a second");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn exchange<H, F>(stream: UnixStream, handler: &H) -> io::Result<()>
where
    H: Fn(Request) -> F,
    F: Future<Output = Value>,
{
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    timeout(STEP_LIMIT, BufReader::new(read.take(REQUEST_LIMIT)).read_until(b'\n', &mut line)).await??;
    let answer = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => match timeout(STEP_LIMIT, handler(request)).await {
            Ok(answer) => answer,
            Err(_) => json!({"error": "the agent did not answer in time"}),
        },
        Err(error) => json!({"error": format!("not a request: {error}")}),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    timeout(STEP_LIMIT, write.write_all(&text)).await??;
    write.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::super::{ask, leave_dead_socket, socket_path};
    use super::*;

    async fn with_server<T: Send + 'static>(client: impl FnOnce(PathBuf) -> T + Send + 'static) -> T {
        let dir = tempfile::tempdir().unwrap();
        let path = socket_path(dir.path());
        let server = Server::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(server, |request| async move { json!({"asked": request}) }));
        let answer = tokio::task::spawn_blocking(move || client(path)).await.unwrap();
        tasks.shutdown().await;
        answer
    }

    #[tokio::test]
    async fn a_request_gets_its_answer() {
        let answer = with_server(|path| ask(&path, Request::Status).unwrap()).await;
        assert_eq!(answer["asked"]["command"], "status");
    }

    #[tokio::test]
    async fn rubbish_gets_an_error_and_harms_nobody() {
        let answer = with_server(|path| {
            use std::io::{Read, Write};
            let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
            stream.write_all(&[b'x'; 8192]).unwrap();
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            ask(&path, Request::Flush).unwrap()
        })
        .await;
        assert_eq!(answer["asked"]["command"], "flush");
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = socket_path(dir.path());
        leave_dead_socket(&path);
        let server = Server::bind(&path).unwrap();
        assert_eq!(Server::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(server);
        assert!(!path.exists());
    }
}
