"""Classifiers of label sets on nine sets, by repeated cross-validation."""
