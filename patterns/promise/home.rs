//! What the promises of one loop share.
//!
//! A resolver may be dropped where no `Context` is at hand: with a timer that is cancelled, a connection
//! that is removed, a callback that panics. It defers its callback by the loop's
//! [`Local`](crate::reactor::Local).

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::reactor::{Context, Local, Place};

/// Shared by all promises of a loop; an extension of it.
pub(super) struct Home<S: 'static> {
    pub(super) local: Local<S>,
    /// Rejections without a handler.
    unhandled: Cell<u64>,
}

impl<S: 'static> Home<S> {
    #[inline]
    pub(super) fn of(reactor: &mut Context<S>) -> Rc<Home<S>> {
        if let Some(home) = reactor.extension::<Option<Rc<Home<S>>>>() {
            return home.clone();
        }
        let home = Rc::new(Home { local: reactor.local(), unhandled: Cell::new(0) });
        *reactor.extension() = Some(home.clone());
        home
    }

    /// A rejection has reached the end of its chain (P4).
    #[cold]
    pub(super) fn unhandled(&self, place: Place, error: &dyn fmt::Debug) {
        if !self.local.is_closed() {
            self.unhandled.set(self.unhandled.get() + 1);
            log::error!("nobody catches what rejects the promise made at {place}: {error:?}");
        }
    }
}

impl<S: 'static> Context<S> {
    /// Promises that were rejected without a handler, since the reactor was made. Each is logged.
    pub fn unhandled(&self) -> u64 {
        let home = self.extension_ref::<Option<Rc<Home<S>>>>().and_then(Option::as_ref);
        home.map_or(0, |home| home.unhandled.get())
    }
}
