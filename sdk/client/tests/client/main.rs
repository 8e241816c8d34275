//! The client against a broker in memory that can be made to fail.

mod admin;
mod broker;
mod connection;
mod consume;
mod group;
mod produce;
mod recovery;
