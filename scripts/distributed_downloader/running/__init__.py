"""The workflow as one run: how it begins, how it is started, how it ends."""
