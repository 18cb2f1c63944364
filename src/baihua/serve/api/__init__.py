"""OpenAI's API over models that are open here."""
