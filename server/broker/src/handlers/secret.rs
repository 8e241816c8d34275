//! Secrets: set, list, remove.

use millstream_protocol::WireError;
use millstream_protocol::api::secret::{ListSecretsResponse, RemoveSecret, SetSecret};

use crate::clock;
use crate::context::Context;
use crate::secrets::Secret;

pub(crate) async fn set(context: &Context, request: SetSecret) -> Result<(), WireError> {
    let changed = context.secrets.set(request, clock::now_ms()).await?;
    tell(context, changed).await
}

pub(crate) fn list(context: &Context) -> ListSecretsResponse {
    ListSecretsResponse {
        secrets: context.secrets.list(&context.controller.image()),
    }
}

pub(crate) async fn remove(context: &Context, request: RemoveSecret) -> Result<(), WireError> {
    let image = context.controller.image();
    let removed = context
        .secrets
        .remove(&request.name, &image, clock::now_ms());
    tell(context, removed.await?).await
}

async fn tell(context: &Context, changed: (String, Secret)) -> Result<(), WireError> {
    let (cluster, controller) = (&context.cluster, &context.controller);
    context.secrets.tell(cluster, controller, changed).await
}
