"""Judges from a lane's outcomes whether its relay works, and decides what that means for its mails and later runs."""
