"""Studies behind single numbers of the documentation; each file is a program."""
