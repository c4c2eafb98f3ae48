//! Random files and server answers, for every source of images.

mod answers;
mod archives;
mod images;
mod sets;
