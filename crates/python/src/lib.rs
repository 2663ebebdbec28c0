//! The Python engine.
