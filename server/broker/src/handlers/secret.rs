//! Secrets: set, list, remove.

use millstream_protocol::WireError;
use millstream_protocol::api::secret::{ListSecretsResponse, RemoveSecret, SetSecret};

use crate::clock;
use crate::context::Context;

pub(crate) async fn set(context: &Context, request: SetSecret) -> Result<(), WireError> {
    context.secrets.set(request, clock::now_ms()).await
}

pub(crate) fn list(context: &Context) -> ListSecretsResponse {
    ListSecretsResponse {
        secrets: context.secrets.list(&context.controller.image()),
    }
}

pub(crate) async fn remove(context: &Context, request: RemoveSecret) -> Result<(), WireError> {
    let image = context.controller.image();
    context.secrets.remove(&request.name, &image).await
}
