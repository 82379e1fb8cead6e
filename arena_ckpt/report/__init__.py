"""Memory plans as pictures, tables, sentences and files, each in a module."""
