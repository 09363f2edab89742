//! Every wait of the program, each at a server that stalls there: nothing waits without an end or without a word, and
//! no answer is taken without a bound.

mod binary;
mod clients;
mod server;
