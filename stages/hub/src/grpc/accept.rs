//! Connections: TLS with a certificate of the CA within a bounded time, or none at all.
//!
//! The server's own listener is not used: whoever is turned away by TLS is to stand in the log, with the reason.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use eddy_runtime::{audit::Audit, fresh::Fresh};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{
    flood::Flood,
    tls::{Tls, common_name},
};

/// A handshake takes at most so long.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes at the same time, and of one address: what comes beyond is turned away.
const HANDSHAKES_MAX: usize = 256;
const HANDSHAKES_EACH: usize = 16;
/// So many that are turned away are logged one by one in a minute.
const REFUSED_MAX: u32 = 60;
/// After an error of the listener, as when there are no more file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The CN of their certificate's subject.
    pub cn: Arc<str>,
    /// Where they call from.
    pub address: SocketAddr,
}

/// A connection of somebody known.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    caller: Caller,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What handshakes share.
struct Door {
    tls: Arc<Fresh<Tls>>,
    audit: Arc<Audit>,
    room: Arc<Semaphore>,
    refused: Flood,
    /// Handshakes that are under way, by where they come from.
    knocking: Mutex<HashMap<IpAddr, usize>>,
}

/// A handshake that is under way.
struct Knock {
    door: Arc<Door>,
    from: IpAddr,
}

impl Drop for Knock {
    fn drop(&mut self) {
        let mut knocking = self.door.knocking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = knocking.entry(self.from) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The connections that come, until nobody takes them any more.
pub fn connections(
    listener: TcpListener,
    tls: Arc<Fresh<Tls>>,
    audit: Arc<Audit>,
    connections_max: usize,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send + use<> {
    let door = Arc::new(Door {
        tls,
        audit,
        room: Arc::new(Semaphore::new(connections_max)),
        refused: Flood::new(REFUSED_MAX),
        knocking: Mutex::default(),
    });
    let (sender, mut receiver) = mpsc::channel(16);
    tokio::spawn(accept(listener, door, sender));
    stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(Ok)
}

async fn accept(listener: TcpListener, door: Arc<Door>, sender: mpsc::Sender<Connection>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let knock = match door.knock(address.ip()) {
            Ok(knock) => knock,
            Err(reason) => {
                door.refuse(address, &reason);
                continue;
            }
        };
        let (door, sender) = (door.clone(), sender.clone());
        tokio::spawn(async move {
            match door.admit(stream, address).await {
                // Nobody takes it when the server stops.
                Ok(connection) => drop(sender.send(connection).await),
                Err(reason) => door.refuse(address, &reason),
            }
            drop(knock);
        });
    }
}

impl Door {
    /// Room for a handshake; who opens many connections and says nothing takes none of the others'.
    fn knock(self: &Arc<Self>, from: IpAddr) -> Result<Knock, String> {
        let mut knocking = self.knocking.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (knocking.values().sum::<usize>(), knocking.get(&from).copied().unwrap_or(0));
        if own >= HANDSHAKES_EACH {
            return Err(format!("{own} handshakes from there are under way"));
        }
        if all >= HANDSHAKES_MAX {
            return Err(format!("{all} handshakes are under way"));
        }
        *knocking.entry(from).or_default() += 1;
        Ok(Knock { door: self.clone(), from })
    }

    async fn admit(&self, stream: TcpStream, address: SocketAddr) -> Result<Connection, String> {
        let _ = stream.set_nodelay(true);
        let within = timeout(HANDSHAKE_MAX, TlsAcceptor::from(self.tls.get().server.clone()).accept(stream)).await;
        let stream = within.map_err(|_| format!("no TLS within {} s", HANDSHAKE_MAX.as_secs()))?;
        let stream = stream.map_err(|error| format!("TLS: {error}"))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let cn = common_name(certificate.ok_or("no certificate")?)?;
        let place = self.room.clone().try_acquire_owned();
        let place =
            place.map_err(|_| format!("{cn:?} comes while all connections are taken: see hub.grpc.connections_max"))?;
        Ok(Connection { stream, caller: Caller { cn: cn.into(), address }, _place: place })
    }

    fn refuse(&self, address: SocketAddr, reason: &str) {
        let Some(more) = self.refused.next() else { return };
        tracing::info!(%address, reason, "a connection was refused");
        if let Err(error) = self.audit.log(&address.to_string(), "connect", "refused", &format!("{reason}{more}")) {
            tracing::error!(%error, "a refused connection is not logged");
        }
    }
}
