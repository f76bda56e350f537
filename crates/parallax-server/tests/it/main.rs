//! The server from outside: real sockets, a real SQLite database, real agents.

mod http;
