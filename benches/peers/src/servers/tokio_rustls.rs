//! TLS the asynchronous way: tokio-rustls on tokio's multi-threaded runtime, a task a connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::frames::{BUFFER, holds_frame, message_length};
use super::options::Options;
use super::tls;
use super::work::Work;
use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::requests::HEADER;

pub(super) fn serve(options: &Options) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = options.workers {
        runtime.worker_threads(workers);
    }
    runtime.enable_all().build()?.block_on(accept(options.work))
}

async fn accept(work: Work) -> Result<()> {
    let identity = tls::Identity::generate()?;
    let acceptor = TlsAcceptor::from(identity.config);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Endpoint { address: listener.local_addr()?, certificate: identity.certificate }.announce()?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A connection that fails ends its own task; the driver notices and reports it.
        tokio::spawn(serve_connection(acceptor.clone(), stream, work));
    }
}

/// The same loop as [`super::frames::serve`], with awaits.
async fn serve_connection(acceptor: TlsAcceptor, stream: TcpStream, work: Work) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(BUFFER, acceptor.accept(stream).await?);
    let mut frame = vec![0; HEADER];
    let mut responses = Vec::new();
    while !stream.fill_buf().await?.is_empty() {
        stream.read_exact(&mut frame[..HEADER]).await?;
        let length = message_length(&frame)?;
        frame.resize(HEADER + length, 0);
        stream.read_exact(&mut frame[HEADER..]).await?;
        run(work, &frame[HEADER..]).await;
        if frame.len() >= BUFFER {
            stream.get_mut().write_all(&responses).await?;
            responses.clear();
            stream.get_mut().write_all(&frame).await?;
        } else {
            responses.extend_from_slice(&frame);
        }
        if responses.len() >= BUFFER || !holds_frame(stream.buffer()) {
            stream.get_mut().write_all(&responses).await?;
            stream.get_mut().flush().await?;
            responses.clear();
        }
    }
    Ok(())
}

/// An asynchronous handler sleeps without holding up its thread.
async fn run(work: Work, message: &[u8]) {
    match work.sleep(message) {
        Duration::ZERO => work.run(message),
        sleep => tokio::time::sleep(sleep).await,
    }
}
