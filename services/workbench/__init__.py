"""What a developer runs on a laptop: the parts a service needs, demo, comparison and benchmarks."""
