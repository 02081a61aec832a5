"""Do promised levels hold? A simulation of the guarantees of label sets."""
