"""The experiments of the paper and our studies; not part of the installed package."""
