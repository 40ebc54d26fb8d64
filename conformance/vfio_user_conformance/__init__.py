"""The judge: a conformance suite for vfio-user servers, on pytest."""
