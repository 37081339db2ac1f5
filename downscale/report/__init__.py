"""One self-contained page from the scores: it draws and words, and computes nothing."""
