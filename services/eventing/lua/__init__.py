"""Scripts that Valkey runs atomically."""
