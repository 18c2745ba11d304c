"""What every room may import: errors, names, files, text. The standard library and numpy only."""
