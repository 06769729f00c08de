pub(crate) mod certificates;
mod fan_out;
mod good;
mod hub;
mod processes;
mod refused;
