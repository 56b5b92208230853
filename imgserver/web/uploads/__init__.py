"""`POST /api/image/optimize`: from an upload to the optimized image."""
