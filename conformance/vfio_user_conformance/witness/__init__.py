"""The server as a witness: it serves a client, watches every message both ways, and judges what the client sends."""
