"""The test device served by libvfio-user, which is loaded at run time: what its own samples do not offer can be judged."""
