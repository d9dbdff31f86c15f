"""The process around the work: command line, signals, files, many hosts."""
