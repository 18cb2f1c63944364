"""Parts shared by all our HTTP servers: access rules, request limits, error responses, streams and shutdown."""
