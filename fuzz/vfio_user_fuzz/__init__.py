"""The fuzzers: recipes for values, mutations of messages and sessions, and a run against a server."""
