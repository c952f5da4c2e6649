"""Counting words, and showing the counts."""
