//! Known answers on recorded data, read where it lies beside the project.

mod arena_hard;
mod calibrate;
mod golden;
mod judge;
mod judge_stub;
mod judge_world;
mod known_judge;
mod mt_bench;
mod shared;
mod text;
