//! WebSocket on the loop.
