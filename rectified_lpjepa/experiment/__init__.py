"""Experiments: a question, the runs and evaluations that answer it, and what is published beside."""
