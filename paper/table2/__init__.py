"""Multi-label classification: Table II and figure 5 of the paper."""
