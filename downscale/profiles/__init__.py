"""How emulated fields are laid out on disk: plain CF files, or the names and attributes that an archive asks for."""
