//! Spouts, bolts and typed tuples, and the executors that run a topology on the runtime.
