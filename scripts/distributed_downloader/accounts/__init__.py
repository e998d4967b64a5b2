"""What became of every row, for people: ledger, summary, report."""
