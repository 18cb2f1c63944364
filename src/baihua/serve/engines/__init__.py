"""Engines for the API: in this process, in vLLM's server, or in replicas on Ray Serve."""
