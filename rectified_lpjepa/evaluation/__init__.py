"""What learned features are worth, and whether they are distributed as asked: evaluations of any checkpoint."""
