"""Data that ships with Baihua or is generated from templates."""
