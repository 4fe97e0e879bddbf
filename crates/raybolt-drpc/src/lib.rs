//! Distributed RPC: local server, clients and the topology builders that answer requests.
