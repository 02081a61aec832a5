"""Classifiers of label sets on ten sets, by repeated cross-validation."""
