//! A real server and host for tests, scripted agents, the conformance suite.
