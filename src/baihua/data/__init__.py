"""Layer 3: reading, cleaning, drawing and inspecting data, and data that ships with Baihua."""
