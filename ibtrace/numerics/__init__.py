"""Pure tensor functions: no module, no file, no clock, no global state."""
