"""Baihua builds a Chinese chatbot from an open base model and measures every step."""

__version__ = "0.1.0"
