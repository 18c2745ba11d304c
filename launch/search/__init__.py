"""One search, from its options to its last result."""
