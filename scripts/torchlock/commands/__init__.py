"""The verbs of the command line, by what they are about; each returns its exit status."""
