"""What a run is told as: for terminals, programs, CI servers and browsers."""
