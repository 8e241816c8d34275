//! Accepts connections and serves their streams.

use std::sync::Arc;
use std::time::Duration;

use millstream_transport::{CloseCode, Connection, Incoming, Listener, Role};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{DRAIN_LIMIT, HELLO_LIMIT};
use crate::context::Front;
use crate::handlers;
use crate::session::Session;

/// Where the broker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It takes requests.
    Serving,
    /// It takes no more, and finishes what it has.
    Draining,
}

/// Accepts until the broker drains, then waits for the connections to finish.
pub(crate) async fn serve(listener: Listener, front: Arc<Front>, phase: watch::Receiver<Phase>) {
    let mut drains = phase.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = listener.accept() => {
                let Some(incoming) = incoming else { break };
                connections.spawn(connection(incoming, Arc::clone(&front), phase.clone()));
            }
            () = draining(&mut drains) => break,
            Some(_) = connections.join_next() => {}
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
        tracing::warn!(
            "connections were still busy after {} s; they are cut",
            DRAIN_LIMIT.as_secs()
        );
        connections.shutdown().await;
    }
    listener.close(CloseCode::ShuttingDown, "the broker is shutting down");
    listener.wait_idle().await;
}

async fn connection(incoming: Incoming, front: Arc<Front>, mut phase: watch::Receiver<Phase>) {
    let from = incoming.peer_address();
    let connection = match incoming.accept().await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::info!(%from, %error, "connection refused");
            return;
        }
    };
    let _counted = front.connections.add();
    let session = Arc::new(Session::new(connection.clone()));
    let mut streams = JoinSet::new();
    let hello_limit = tokio::time::sleep(HELLO_LIMIT);
    tokio::pin!(hello_limit);
    let out_of_touch = out_of_touch(&front, &connection);
    tokio::pin!(out_of_touch);
    loop {
        tokio::select! {
            stream = connection.accept_stream() => {
                let Ok((sender, receiver)) = stream else { break };
                let (front, session) = (Arc::clone(&front), Arc::clone(&session));
                streams.spawn(async move { handlers::serve(&front, &session, sender, receiver).await });
            }
            Some(_) = streams.join_next() => {}
            () = &mut hello_limit, if !session.is_open() => {
                tracing::info!(%from, "no version handshake within {} s", HELLO_LIMIT.as_secs());
                connection.close(CloseCode::Done, "no version handshake came");
                return;
            }
            () = &mut out_of_touch => {
                tracing::debug!(peer = session.peer(), "a client is sent to other brokers");
                connection.close(CloseCode::Dropped, "this broker has lost touch with its cluster");
                return;
            }
            () = draining(&mut phase) => {
                drain(&connection, streams).await;
                break;
            }
        }
    }
    tracing::debug!(peer = session.peer(), "connection ended");
}

/// Waits until a client had better look for another broker, because this one has lost touch with its cluster. Once
/// it has looked it may come back: there may be no better one.
async fn out_of_touch(front: &Front, connection: &Connection) {
    if connection.peer().role != Role::Client {
        return std::future::pending().await;
    }
    let mut touch = front.cluster.touch().subscribe();
    // The sender lives as long as the broker.
    let _ = touch.wait_for(|in_touch| *in_touch).await;
    let _ = touch.wait_for(|in_touch| !*in_touch).await;
}

/// Waits until the broker drains; a broker that is gone drains too.
async fn draining(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
}

/// Lets requests under way finish. Streams that never end by themselves (fetch, group, logs) are
/// cut when nothing has finished for a moment; a client resumes where it was.
async fn drain(connection: &Connection, mut streams: JoinSet<()>) {
    const QUIET: Duration = Duration::from_millis(200);
    // Other brokers are never quiet, and ask elsewhere.
    let is_broker = connection.peer().role == Role::Broker;
    while !is_broker && let Ok(Some(_)) = tokio::time::timeout(QUIET, streams.join_next()).await {}
    connection.close(CloseCode::ShuttingDown, "the broker is shutting down");
    streams.shutdown().await;
}
