"""What every command shares: it runs anything, and knows no science."""
