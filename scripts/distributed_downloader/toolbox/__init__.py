"""The tools that come with the downloader: one module for each, found by its name."""
