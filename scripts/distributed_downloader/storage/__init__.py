"""What is stored: parts, shards, tables, the locks that guard them, and how all is read back."""
