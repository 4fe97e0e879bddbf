//! Messages of raybolt and their bytes.
