"""Files of any format, local or from a hub, become rows."""
