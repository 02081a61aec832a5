"""Studies behind single numbers of the documentation: ``python -m paper.studies.NAME``."""
