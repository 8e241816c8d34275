//! The cluster itself.

use millstream_protocol::api::cluster::{IssueTicket, IssuedTicket};

use super::Admin;
use crate::error::Result;

impl Admin {
    /// A ticket that lets one new broker into the cluster, once.
    ///
    /// # Errors
    ///
    /// There are as many tickets as there may be, or it would be good for too long.
    pub async fn issue_ticket(&self, request: IssueTicket) -> Result<IssuedTicket> {
        self.client.call(request).await
    }
}
