"""From a list of URLs, whatever it is written in, to batches of one server each."""
