"""The stateful run: sequences of commands, each reply held against a model of what the server must know by then."""
