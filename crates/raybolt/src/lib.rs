//! A distributed execution engine: calls, flow and Distributed RPC.

/// Distributed RPC: one call goes in, fans out over a topology, one answer comes out.
pub use raybolt_drpc as drpc;
/// Flow: spouts, bolts and streams of typed tuples.
pub use raybolt_topology as topology;
