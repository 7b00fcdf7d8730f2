"""Sending over several relays: which of them gets a mail, and what a lane knows of each."""
