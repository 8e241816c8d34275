//! A guest of `wasi:messaging`: it does what a message tells it, and sends what it found.

wit_bindgen::generate!({
    path: "../../../../../wit",
    world: "messaging-plugin",
    generate_all,
});

use exports::wasi::messaging::incoming_handler::{Error, Guest, Message};
use wasi::config::store;
use wasi::messaging::producer;
use wasi::messaging::types::Client;

struct Courier;

export!(Courier);

impl Guest for Courier {
    fn handle(message: Message) -> Result<(), Error> {
        let data = message.data();
        let command = String::from_utf8_lossy(&data);
        match command.as_ref() {
            "show" => send(
                "found",
                Message::new(
                    format!(
                        "{:?} {:?} {:?} {:?}",
                        message.topic(),
                        message.content_type(),
                        message.metadata(),
                        store::get("color"),
                    )
                    .as_bytes(),
                ),
            ),
            "forward" => {
                message.add_metadata("seen", "yes");
                message.remove_metadata("h");
                message.set_content_type("text/plain");
                message.set_data(b"forwarded");
                send("found", message)
            }
            "twice" => {
                send("found", Message::new(b"one"))?;
                send("found", Message::new(b"two"))
            }
            "lost" => send("nowhere", message),
            "fail" => {
                send("found", Message::new(b"in vain"))?;
                Err(Error::Other("as told".into()))
            }
            "time out" => Err(Error::Timeout),
            "panic" => panic!("as told"),
            "hoard" => loop {
                std::mem::forget(Message::new(&vec![0; 1 << 20]));
            },
            "leak" => loop {
                std::mem::forget(Message::new(b""));
            },
            _ => Ok(()),
        }
    }
}

fn send(topic: &str, message: Message) -> Result<(), Error> {
    producer::send(&Client::connect("any")?, topic, message)
}
