//! The lab as a user meets it: the real binary on a free port, over HTTP and in a browser.

mod running;
mod stopping;
mod strangers;
mod traffic;
mod browser;
mod chat;
mod pages;
mod faults;
mod race;
mod sale;
mod shortener;
mod grading;
mod access;
mod containers;
mod job_queue;
