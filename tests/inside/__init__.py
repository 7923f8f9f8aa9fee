"""Python programs that run in guests, through the door that the stage itself has to the kernel."""
