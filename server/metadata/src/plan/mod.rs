//! What is to be done about brokers that come, go and are emptied; and how the partitions stand.
//!
//! Plans are pure: they look at an image and say which [commands](crate::Command) to give, one
//! after the other. Each of these holds for the image that the plan was made of with those before
//! it applied. A plan is bounded: whoever carries one out asks for the next when it is done, until
//! there is nothing left to do.
//!
//! - `elections`: new leaders, after a broker has gone or has come
//! - `moves`: replicas to other brokers, for balance or to empty a broker
//! - `beside`: companions to where their inputs are
//! - `widen`: more replicas for internal topics
//! - `status`: partitions that stand still, or have fewer replicas than they should

mod beside;
mod elections;
mod moves;
mod status;
mod widen;

pub use beside::follow;
pub(crate) use beside::leaders_astray;
pub(crate) use elections::appoint;
pub use elections::elections;
pub(crate) use moves::back_to_preferred;
pub use moves::{Drain, drain, imbalance, rebalance};
pub use status::{Outage, offline, under_replicated};
pub use widen::widen;
