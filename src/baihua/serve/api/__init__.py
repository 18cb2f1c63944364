"""OpenAI's API for models that this process serves."""
