//! Every decision of raybolt as pure state machines.
