"""``n2n compare``: several networks, trained under one budget, in one table."""
