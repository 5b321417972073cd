"""Indexes: what they said when they were recorded, and the loopback server that says it again."""
