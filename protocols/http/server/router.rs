//! Routes: which handler a method and a path lead to.
//!
//! Knows handlers; which route fits is found out in `../route_matcher.rs`.
//!
//! # Read next
//! `../sse.rs`: events for a page.

use std::fmt;

use http::{Method, StatusCode};

use super::{Body, BodyHandler, Collecting, Reply, Service, Streaming};
use crate::protocols::http::request::Request;
use crate::protocols::http::response::Response;
use crate::protocols::http::route_matcher::{Found, Matcher};
use crate::reactor::Context;

/// Hands requests to handlers by method and path.
///
/// `{id}` in a pattern stands for a segment that is not empty, `{rest...}` at its end for the rest
/// of the path: [`Request::param`] returns the text. The more definite route wins, `/users/me` over
/// `/users/{id}`, whichever was added first. If no route fits, the response is 404; if only the
/// method does not fit, it is 405 with `Allow`. A HEAD that has no route of its own goes to GET,
/// and OPTIONS is answered with `Allow`. A path that tries to climb (`..`, encoded or not) is a
/// 400.
///
/// ```
/// use waterwheel::{Reactor, protocols::http::{Router, Server}};
///
/// let mut reactor = Reactor::<Vec<String>>::new()?;
/// let router = Router::new()
///     .get("/users/{id}", |reactor, users: &mut Vec<String>, request, reply| {
///         let id = request.param("id").and_then(|id| id.parse::<usize>().ok());
///         let user = id.and_then(|id| users.get(id).cloned());
///         reply.send(reactor, user.unwrap_or_else(|| "nobody".to_owned()));
///     })
///     .post("/users", |reactor, users, request, reply| {
///         users.push(String::from_utf8_lossy(request.body()).into_owned());
///         reply.send(reactor, "thank you");
///     });
/// Server::routes(router).listen(&mut reactor, "127.0.0.1:0")?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Router<S: 'static> {
    matcher: Matcher,
    /// By the matcher's index.
    routes: Vec<Route<S>>,
}

struct Route<S> {
    streams: bool,
    service: Box<dyn Service<S>>,
}

impl<S: 'static> Router<S> {
    /// No routes.
    pub fn new() -> Router<S> {
        Router { matcher: Matcher::default(), routes: Vec::new() }
    }

    /// A route for one method.
    ///
    /// # Panics
    /// If the pattern is malformed, or the method has a route of the same pattern already.
    #[track_caller]
    pub fn route<F>(self, method: Method, pattern: &str, handler: F) -> Router<S>
    where
        F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) + 'static,
    {
        self.with(method, pattern, false, Box::new(Collecting(handler)))
    }

    /// A route for GET, and for HEAD.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn get<F>(self, pattern: &str, handler: F) -> Router<S>
    where
        F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) + 'static,
    {
        self.route(Method::GET, pattern, handler)
    }

    /// A route for POST.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn post<F>(self, pattern: &str, handler: F) -> Router<S>
    where
        F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) + 'static,
    {
        self.route(Method::POST, pattern, handler)
    }

    /// A route for PUT.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn put<F>(self, pattern: &str, handler: F) -> Router<S>
    where
        F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) + 'static,
    {
        self.route(Method::PUT, pattern, handler)
    }

    /// A route for DELETE.
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn delete<F>(self, pattern: &str, handler: F) -> Router<S>
    where
        F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) + 'static,
    {
        self.route(Method::DELETE, pattern, handler)
    }

    /// A route whose bodies are streamed; see [`Server::streaming`](super::Server::streaming).
    ///
    /// # Panics
    /// As [`route`](Router::route).
    #[track_caller]
    pub fn stream<F, B>(self, method: Method, pattern: &str, handler: F) -> Router<S>
    where
        F: FnMut(&mut Context<S>, &mut S, &Request<'_>, Reply) -> B + 'static,
        B: FnMut(&mut Context<S>, &mut S, Body<'_>) + 'static,
    {
        self.with(method, pattern, true, Box::new(Streaming(handler)))
    }

    #[track_caller]
    fn with(
        mut self,
        method: Method,
        pattern: &str,
        streams: bool,
        service: Box<dyn Service<S>>,
    ) -> Router<S> {
        self.matcher.add(method, pattern);
        self.routes.push(Route { streams, service });
        self
    }
}

/// The response if there is no route.
fn without_route(found: Found<'_>, method: &Method) -> Response {
    match found {
        Found::WrongMethod(allowed) => {
            let options = method == Method::OPTIONS;
            let status =
                if options { StatusCode::NO_CONTENT } else { StatusCode::METHOD_NOT_ALLOWED };
            Response::from(status).header("Allow", allowed)
        }
        Found::Bad => StatusCode::BAD_REQUEST.into(),
        Found::Nothing | Found::Route(..) => StatusCode::NOT_FOUND.into(),
    }
}

impl<S: 'static> Service<S> for Router<S> {
    fn streams(&self, request: &Request<'_>) -> bool {
        match self.matcher.find(request.method(), request.path()) {
            Found::Route(at, _) => self.routes[at].streams,
            _ => true, // It is answered at once.
        }
    }

    fn call(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        request: Request<'_>,
        reply: Reply,
    ) {
        match self.matcher.find(request.method(), request.path()) {
            Found::Route(at, params) => {
                let request = Request { params, ..request };
                self.routes[at].service.call(reactor, state, request, reply);
            }
            other => {
                reply.send(reactor, without_route(other, request.method()));
            }
        }
    }

    fn stream(
        &mut self,
        reactor: &mut Context<S>,
        state: &mut S,
        request: Request<'_>,
        reply: Reply,
    ) -> BodyHandler<S> {
        match self.matcher.find(request.method(), request.path()) {
            Found::Route(at, params) => {
                let request = Request { params, ..request };
                self.routes[at].service.stream(reactor, state, request, reply)
            }
            other => {
                reply.send(reactor, without_route(other, request.method()));
                Box::new(|_, _, _| {})
            }
        }
    }
}

impl<S: 'static> Default for Router<S> {
    fn default() -> Router<S> {
        Router::new()
    }
}

impl<S: 'static> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Router").field(&self.matcher).finish()
    }
}
