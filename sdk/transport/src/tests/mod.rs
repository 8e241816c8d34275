//! Tests over loopback: a listener and a connector in one process, on a free port.

mod connections;
mod files;
mod frames;
mod limits;
mod trust;

use std::time::Duration;

use crate::identity::{Authority, Identity};
use crate::{Connection, Connector, FrameReceiver, FrameSender, Listener, Role, TransportConfig};

/// What nothing on loopback takes: a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition, and fails the test when it does not come true.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("the condition did not come true")
}

fn authority() -> Authority {
    Authority::create("test").unwrap()
}

fn server_identity(authority: &Authority) -> Identity {
    authority
        .issue(Role::Server, "broker-1", &["localhost", "127.0.0.1"])
        .unwrap()
        .identity()
        .unwrap()
}

fn client_identity(authority: &Authority) -> Identity {
    authority
        .issue(Role::Client, "alice", &[])
        .unwrap()
        .identity()
        .unwrap()
}

/// A listener on a free port of loopback.
fn listen(identity: &Identity, config: TransportConfig) -> Listener {
    Listener::bind("127.0.0.1:0".parse().unwrap(), identity, config).unwrap()
}

/// A connected pair. The listener and connector are kept because their sockets carry it.
struct Pair {
    listener: Listener,
    connector: Connector,
    server: Connection,
    client: Connection,
}

impl Pair {
    async fn connect() -> Self {
        Self::with(TransportConfig::server(), TransportConfig::client()).await
    }

    async fn with(server: TransportConfig, client: TransportConfig) -> Self {
        let authority = authority();
        let listener = listen(&server_identity(&authority), server);
        let connector = Connector::new(&client_identity(&authority), client).unwrap();
        let address = listener.local_addr().to_string();
        let accept = async { listener.accept().await.unwrap().accept().await.unwrap() };
        let (client, server) =
            within(async { tokio::join!(connector.connect(&address, "localhost"), accept) }).await;
        Self {
            listener,
            connector,
            server,
            client: client.unwrap(),
        }
    }

    /// A stream that the client has opened: the client's sender, the server's receiver, and the
    /// halves of the way back. A first frame has made it known to the server.
    async fn stream(&self) -> Stream {
        let (mut sender, client_receiver) = self.client.open_stream().await.unwrap();
        sender.send(&()).await.unwrap();
        let (server_sender, mut receiver) = within(self.server.accept_stream()).await.unwrap();
        within(receiver.receive::<()>(0)).await.unwrap().unwrap();
        Stream {
            sender,
            receiver,
            server_sender,
            client_receiver,
        }
    }

    /// The same for a test that writes bytes of its own making.
    async fn raw_to_frames(&self) -> (crate::RawSender, FrameReceiver) {
        let (mut sender, _) = self.client.open_raw().await.unwrap();
        let hello = millstream_protocol::frame::FRAME_HEADER_BYTES;
        sender.write(vec![0; hello].into()).await.unwrap();
        let (_, mut receiver) = within(self.server.accept_stream()).await.unwrap();
        within(receiver.receive::<()>(0)).await.unwrap().unwrap();
        (sender, receiver)
    }
}

struct Stream {
    sender: FrameSender,
    receiver: FrameReceiver,
    server_sender: FrameSender,
    client_receiver: FrameReceiver,
}
