//! A way to a server that can be blocked without being closed: both ends hear nothing, and nothing is refused.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// Which connections pass: those of this generation and above.
pub struct Relay {
    pub port: u16,
    generation: Arc<watch::Sender<u64>>,
}

impl Relay {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().port();
        let generation = Arc::new(watch::Sender::new(0));
        let current = generation.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let own = *current.borrow();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, own, current.subscribe()));
                tokio::spawn(pass(from_server, to_client, own, current.subscribe()));
            }
        });
        Self { port: here, generation }
    }

    /// What is connected now is half-open from here on; new connections pass.
    pub fn block(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, own: u64, current: watch::Receiver<u64>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        // What comes is swallowed; neither end is closed.
        if *current.borrow() == own && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
