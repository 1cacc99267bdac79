//! Unit tests of the configuration language.
