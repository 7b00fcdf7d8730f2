"""What the outcomes of a lane say of its relay, and what follows for the mails and for later runs."""
