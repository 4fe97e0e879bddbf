//! A distributed execution engine: calls, flow and Distributed RPC.
