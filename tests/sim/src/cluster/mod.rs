//! Many seeds of many steps.
