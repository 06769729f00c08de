//! Export: what lies in the streams lies in Parquet, whatever dies, and comes back by a replay.

mod bounds;
mod continuous;
mod disk;
mod filled;
mod hub;
mod kills;
mod queries;
mod replayed;
mod s3;
