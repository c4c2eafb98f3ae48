//! Random files and answers of a server, for every way in which images come.

mod answers;
mod archives;
mod images;
mod sets;
