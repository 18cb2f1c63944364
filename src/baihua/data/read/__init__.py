"""Importing data: files of any format, local or from a hub, are converted to rows."""
