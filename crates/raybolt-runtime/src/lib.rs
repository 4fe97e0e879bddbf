//! The shells of raybolt: threads, timers and values that drive the machines of the core.
