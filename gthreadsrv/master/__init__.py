"""The master process: all workers' parent, which serves nobody itself."""
