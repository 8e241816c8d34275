//! `wasi:messaging`: what a guest sends is emitted with the record that it handles.

use wasmtime::bail;
use wasmtime::component::Resource;

use super::HostState;
use crate::bindings::messaging::wasi::messaging::producer;
use crate::bindings::messaging::wasi::messaging::types::{
    self, Error, HostClient, HostMessage, Metadata, Topic,
};
use crate::bindings::typed::exports::millstream::plugin::record_handler::{
    InputRecord, OutputRecord,
};
use crate::messages::{Client, Message};
use crate::outcomes::MAX_OUTPUT_BYTES;

/// What a guest holds of messages and has sent in one call, bytes.
const MAX_MESSAGE_BYTES: usize = MAX_OUTPUT_BYTES;

/// The messages of one worker.
pub(super) struct Messages {
    topic: String,
    outputs: Vec<String>,
    /// What was sent for the record that is being handled.
    sent: Vec<OutputRecord>,
    /// What is held, bytes.
    held_bytes: usize,
    /// What was sent in this call, bytes.
    sent_bytes: usize,
}

impl Messages {
    pub(super) fn new(topic: &str, outputs: &[String]) -> Self {
        Self {
            topic: topic.to_owned(),
            outputs: outputs.to_vec(),
            sent: Vec::new(),
            held_bytes: 0,
            sent_bytes: 0,
        }
    }

    pub(super) fn begin_call(&mut self) {
        self.sent.clear();
        self.sent_bytes = 0;
    }

    /// Accounts for a message that has grown or shrunk.
    fn account(&mut self, before: usize, after: usize) -> wasmtime::Result<()> {
        self.held_bytes = self.held_bytes.saturating_sub(before) + after;
        if self.held_bytes + self.sent_bytes > MAX_MESSAGE_BYTES {
            bail!("messages of more than {MAX_MESSAGE_BYTES} bytes in one call");
        }
        Ok(())
    }
}

impl HostState {
    /// Hands a record to the guest, as a call of its own.
    pub(crate) fn receive(
        &mut self,
        record: &InputRecord<'_>,
    ) -> wasmtime::Result<Resource<Message>> {
        self.quota.begin_call();
        let message = Message::of(&self.messages.topic, record);
        self.hold(message)
    }

    /// What the guest has sent since this was asked last.
    pub(crate) fn take_sent(&mut self) -> Vec<OutputRecord> {
        std::mem::take(&mut self.messages.sent)
    }

    /// Accounts for what the guest has said of a record, bytes, which is kept until all are handled.
    pub(crate) fn keep(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.messages.sent_bytes += bytes;
        self.messages.account(0, 0)
    }

    fn hold(&mut self, message: Message) -> wasmtime::Result<Resource<Message>> {
        self.messages.account(0, message.bytes())?;
        Ok(self.table.push(message)?)
    }

    fn change_message(
        &mut self,
        message: &Resource<Message>,
        change: impl FnOnce(&mut Message),
    ) -> wasmtime::Result<()> {
        let message = self.table.get_mut(message)?;
        let before = message.bytes();
        change(message);
        let after = message.bytes();
        self.messages.account(before, after)
    }
}

impl types::Host for HostState {}

impl HostClient for HostState {
    fn connect(&mut self, _name: String) -> wasmtime::Result<Result<Resource<Client>, Error>> {
        self.quota.count()?;
        Ok(Ok(self.table.push(Client)?))
    }

    fn disconnect(&mut self, _client: Resource<Client>) -> wasmtime::Result<Result<(), Error>> {
        self.quota.count()?;
        Ok(Ok(()))
    }

    fn drop(&mut self, client: Resource<Client>) -> wasmtime::Result<()> {
        self.quota.count()?;
        self.table.delete(client)?;
        Ok(())
    }
}

impl HostMessage for HostState {
    fn new(&mut self, data: Vec<u8>) -> wasmtime::Result<Resource<Message>> {
        self.quota.count()?;
        self.hold(Message {
            data,
            ..Message::default()
        })
    }

    fn topic(&mut self, message: Resource<Message>) -> wasmtime::Result<Option<Topic>> {
        self.quota.count()?;
        Ok(self.table.get(&message)?.topic.clone())
    }

    fn content_type(&mut self, message: Resource<Message>) -> wasmtime::Result<Option<String>> {
        self.quota.count()?;
        Ok(self.table.get(&message)?.content_type.clone())
    }

    fn set_content_type(
        &mut self,
        message: Resource<Message>,
        content_type: String,
    ) -> wasmtime::Result<()> {
        self.quota.count()?;
        self.change_message(&message, |it| it.content_type = Some(content_type))
    }

    fn data(&mut self, message: Resource<Message>) -> wasmtime::Result<Vec<u8>> {
        self.quota.count()?;
        Ok(self.table.get(&message)?.data.clone())
    }

    fn set_data(&mut self, message: Resource<Message>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.quota.count()?;
        self.change_message(&message, |it| it.data = data)
    }

    fn metadata(&mut self, message: Resource<Message>) -> wasmtime::Result<Option<Metadata>> {
        self.quota.count()?;
        let metadata = &self.table.get(&message)?.metadata;
        Ok((!metadata.is_empty()).then(|| metadata.clone()))
    }

    fn add_metadata(
        &mut self,
        message: Resource<Message>,
        key: String,
        value: String,
    ) -> wasmtime::Result<()> {
        self.quota.count()?;
        self.change_message(&message, |it| it.add(key, value))
    }

    fn set_metadata(&mut self, message: Resource<Message>, meta: Metadata) -> wasmtime::Result<()> {
        self.quota.count()?;
        self.change_message(&message, |it| it.metadata = meta)
    }

    fn remove_metadata(&mut self, message: Resource<Message>, key: String) -> wasmtime::Result<()> {
        self.quota.count()?;
        self.change_message(&message, |it| it.remove(&key))
    }

    fn drop(&mut self, message: Resource<Message>) -> wasmtime::Result<()> {
        self.quota.count()?;
        let dropped = self.table.delete(message)?;
        self.messages.account(dropped.bytes(), 0)
    }
}

impl producer::Host for HostState {
    fn send(
        &mut self,
        _client: Resource<Client>,
        topic: Topic,
        message: Resource<Message>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.quota.count()?;
        let message = self.table.delete(message)?;
        let bytes = message.bytes();
        let outputs = &self.messages.outputs;
        let Some(output) = outputs.iter().position(|output| *output == topic) else {
            let problem = format!("the deployment has no output of this name; it has {outputs:?}");
            self.messages.account(bytes, 0)?;
            return Ok(Err(Error::PermissionDenied(problem)));
        };
        self.messages.sent_bytes += bytes;
        self.messages.account(bytes, 0)?;
        self.messages.sent.push(message.into_record(output as u32));
        Ok(Ok(()))
    }
}
