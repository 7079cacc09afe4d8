//! Streams, datagrams, listeners and names; links, codecs, limits; and the networks within a program.

mod acceptor;
mod addresses;
mod adopt;
mod authors;
mod budget;
mod closing;
mod codecs;
mod connect;
mod crowds;
mod drain;
mod edges;
mod handlers;
mod link;
mod memory;
mod names;
mod network;
mod rate;
mod stdio;
mod tap;
mod timeouts;
mod transports;
mod udp;
mod unix;
