"""Writes records with their verdicts in formats of other programs, as a stream: memory holds one page of records."""
