//! The commands of the binary, one file each.

pub(crate) mod serve;
pub(crate) mod thumbnail;
pub(crate) mod work;
pub(crate) mod demo;
pub(crate) mod operate;
