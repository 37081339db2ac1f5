"""Climate files in and out: what is in them, in which units, on which days and cells."""
