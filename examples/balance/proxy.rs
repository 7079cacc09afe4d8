//! A request on its way: to an upstream, to another one if that fails, and the response back.
//!
//! Knows the library's server and client; which upstream is next is in `pool.rs`.

use std::net::IpAddr;

use waterwheel::Context;
use waterwheel::net::{self, Limits};
use waterwheel::protocols::http::{Client, Forward, ForwardEvent, Response, Server, StatusCode};

use super::pool::Pool;

/// This program in `Via`.
const NAME: &str = "waterwheel";

/// The state of the program.
pub struct State {
    pub pool: Pool,
    pub client: Client<State>,
    /// Of connections that have changed to another protocol.
    pub limits: Limits,
}

/// A server that passes each request on.
pub fn server() -> Server<State> {
    Server::streaming(|reactor, state: &mut State, request, reply| {
        let forward =
            Forward::new(reactor, request, reply, NAME).header("X-Forwarded-Proto", "http");
        let client = request.peer().map(|peer| peer.ip());
        attempt(reactor, state, &forward, client, 0, StatusCode::SERVICE_UNAVAILABLE);
        forward.body()
    })
}

/// Gives the request to the next upstream that is not in the set `tried`. If there is none, the client
/// gets the status of the last attempt.
fn attempt(
    reactor: &mut Context<State>,
    state: &mut State,
    forward: &Forward<State>,
    client: Option<IpAddr>,
    tried: u64,
    status: StatusCode,
) {
    let since = reactor.now();
    let Some(at) = state.pool.pick(since, client, tried) else {
        return refuse(reactor, state, forward, status);
    };
    let origin = format!("http://{}", state.pool.upstreams[at].name);
    let upstreams = state.client.clone();
    forward.send(reactor, &upstreams, origin, move |reactor, state: &mut State, forward, event| {
        let now = reactor.now();
        match event {
            ForwardEvent::Head(_) => {
                state.pool.upstreams[at].note(now - since);
                state.pool.works(at, now);
            }
            ForwardEvent::End | ForwardEvent::Gone => state.pool.upstreams[at].under_way -= 1,
            ForwardEvent::Upgraded(streams) => {
                state.pool.works(at, now);
                let [client, server] =
                    <[_; 2]>::from(*streams).map(|s| s.limits(state.limits.clone()));
                net::link(reactor, client, server, move |_, state: &mut State, _| {
                    state.pool.upstreams[at].under_way -= 1;
                });
            }
            ForwardEvent::Failed(error) => {
                log::info!("{error}");
                state.pool.upstreams[at].under_way -= 1;
                let status = error.gateway_status();
                if matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) {
                    state.pool.fails(at, now);
                }
                if forward.may_repeat(error) && state.pool.may_retry() {
                    return attempt(reactor, state, forward, client, tried | 1 << at, status);
                }
                refuse(reactor, state, forward, status);
            }
        }
    });
}

/// Answers in place of an upstream: 503, unless one of them is healthy.
fn refuse(
    reactor: &mut Context<State>,
    state: &State,
    forward: &Forward<State>,
    status: StatusCode,
) {
    let now = reactor.now();
    if status.is_client_error() || state.pool.has_healthy(now) {
        return forward.respond(reactor, status);
    }
    let wait = state.pool.retry_after(now).to_string();
    let response = Response::from(StatusCode::SERVICE_UNAVAILABLE).header("Retry-After", wait);
    forward.respond(reactor, response);
}
