//! What the user sees: a table as it goes, JSON, and a page with charts.

pub mod chart;
pub mod machine;
pub mod page;
pub mod table;
