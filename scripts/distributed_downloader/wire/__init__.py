"""One attempt at one URL, from the name of its host to the last byte of its body."""
