"""The BentoML service: the HTTP edge, batching, the web page, settings and errors."""
