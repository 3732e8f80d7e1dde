"""The commands: argv in, exit status out."""
