"""Independent software against the real server: caches in front of it, an HTTP linter, an OpenAPI fuzzer."""
