"""`GET /img/...`: from a request to the response with an image."""
