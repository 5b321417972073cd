"""The doctor: what is wrong with an environment, how it is known, and the one command that mends it."""
